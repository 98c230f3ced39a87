"""The contract of a reward, for the tests of whoever writes one.

    from kvl.rewards.testing import check_reward

    def test_contract():
        check_reward("my_package.my_module:MyReward", {"max_words": 8})

`check_reward` runs every check below; each raises `AssertionError` with what to change.
`make_sample` and `make_batch` build inputs for tests of one's own.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ...problems.prompt import THINK_CLOSE, THINK_OPEN
from ...problems.types import AnswerType
from ..combine import Rewards, RewardSpec
from ..plugins.registry import RewardType, find
from ..plugins.returned import Crash, checked_batch, contribution
from ..types import Outcome, RewardBatch, Sample, Verdict
from .hostile_corpus import hostile_answers

# One attack of each kind: enough to find a parser that raises, short enough for every test run.
_ATTACKS_PER_FAMILY = 2
_PROCESS_TIMEOUT_SECONDS = 60.0


def make_sample(
    answer: str = "7",
    *,
    gold: str = "7",
    question: str = "What is 3 + 4?",
    thinking: str = "3 and 4 make 7.",
    tokens: int = 40,
    truncated: bool = False,
    outcome: Outcome | None = None,
) -> Sample:
    """A graded sample; correct if `answer` is `gold`, unless `outcome` says otherwise."""
    if outcome is None:
        outcome = Outcome.CORRECT if answer == gold else Outcome.INCORRECT
    return Sample(
        problem_id="contract/1",
        question=question,
        answer=gold,
        answer_type=AnswerType.NUMBER,
        options=(),
        response=f"{THINK_OPEN}{thinking}{THINK_CLOSE}Answer: {answer}<|im_end|>",
        tokens=tokens,
        truncated=truncated,
        verdict=Verdict(outcome, answer),
    )


def make_batch(*samples: Sample, iteration: int = 0) -> RewardBatch:
    """The samples of one problem; five of different length and correctness if none are given."""
    usual = (
        make_sample("7", tokens=40),
        make_sample("8", tokens=90),
        make_sample("7", tokens=300, thinking="Let me count again. " * 20),
        make_sample("", tokens=12, outcome=Outcome.NO_ANSWER),
        make_sample("7", tokens=512, truncated=True),
    )
    return RewardBatch(samples or usual, iteration)


def check_reward(
    name: str, settings: Mapping[str, Any] | None = None, *, deterministic: bool = True
) -> None:
    """Everything that a run asks of the reward `name` (an entry point or package.module:Name).

    Leave `deterministic` off for a reward that asks a model or a service.
    """
    settings = dict(settings or {})
    found = find(name)
    check_settings(found, settings)
    check_values(found, settings)
    check_hostile_responses(found, settings)
    if deterministic:
        check_order(found, settings)
    check_in_a_run(name, settings)


def check_settings(found: RewardType, settings: Mapping[str, Any]) -> None:
    """The config takes the settings, rejects unknown keys, and survives the run's config.yaml."""
    try:
        config = found.config.model_validate(dict(settings))
    except ValidationError as error:
        raise AssertionError(f"{found.name}: its own settings are rejected: {error}") from error
    try:
        found.config.model_validate({**settings, "no_such_setting": 1})
    except ValidationError:
        pass
    else:
        # A function with **kwargs asks for settings that it does not name.
        if not found.takes_any_setting:
            raise AssertionError(
                f"{found.name}: an unknown setting is accepted; set extra='forbid' in its Config, "
                "or a typing error in a config goes unnoticed"
            )
    # A run saves the settings that it was given, not the defaults.
    given = config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    saved = json.loads(json.dumps(given))
    if found.config.model_validate(saved) != config:
        raise AssertionError(f"{found.name}: its Config does not load back from the saved run")


def check_values(found: RewardType, settings: Mapping[str, Any]) -> None:
    """One finite number or Verdict for each sample, whatever the size of the group."""
    batch = make_batch()
    for size in (1, 2, len(batch.samples)):
        part = RewardBatch(batch.samples[:size], batch.iteration)
        grade(found, settings, part)


def check_hostile_responses(found: RewardType, settings: Mapping[str, Any]) -> None:
    """No response makes it raise: a policy writes anything, and a raise loses the sample."""
    seen: dict[str, int] = {}
    for attack in hostile_answers():
        seen[attack.family] = seen.get(attack.family, 0) + 1
        if seen[attack.family] > _ATTACKS_PER_FAMILY:
            continue
        request = attack.request
        sample = replace(
            make_sample(),
            answer=request.answer,
            answer_type=request.answer_type,
            options=request.options,
            response=request.response,
            verdict=Verdict(Outcome.NO_ANSWER, reason="hostile"),
        )
        try:
            grade(found, settings, RewardBatch((sample, sample), 0))
        except Exception as error:
            raise AssertionError(
                f"{found.name}: raises {type(error).__name__} ({error}) for a hostile response "
                f"({attack.family}): {request.response[:80]!r}"
            ) from error


def check_order(found: RewardType, settings: Mapping[str, Any]) -> None:
    """A second call gives the same, and the order of the samples does not matter."""
    batch = make_batch()
    first = list(map(number, grade(found, settings, batch)))
    if list(map(number, grade(found, settings, batch))) != first:
        raise AssertionError(f"{found.name}: two calls give different values")
    backwards = RewardBatch(batch.samples[::-1], batch.iteration)
    again = list(map(number, grade(found, settings, backwards)))
    if again[::-1] != first:
        raise AssertionError(f"{found.name}: values depend on the order of the samples")


def check_in_a_run(name: str, settings: Mapping[str, Any]) -> None:
    """In a process of its own, as in a run: it can be imported there and its values come back."""
    spec = RewardSpec(name, settings=settings, timeout_seconds=_PROCESS_TIMEOUT_SECONDS)
    with Rewards([spec]) as rewards:
        (verdicts,) = rewards.score([make_batch()])
    failed = [verdict.reason for verdict in verdicts if not verdict.gradable]
    if failed:
        raise AssertionError(f"{name}: fails in a run: {failed[0]}")


def grade(
    found: RewardType, settings: Mapping[str, Any], batch: RewardBatch
) -> Sequence[float | Verdict]:
    """The reward's values in this process, async or not, per sample or not.

    Raises `AssertionError` for values that are neither finite numbers nor Verdicts, or too few.
    """
    reward = found.make(settings)

    async def run() -> Any:
        if not found.per_sample:
            result = reward.grade(batch)
            return await result if inspect.isawaitable(result) else result
        values = [reward(sample) for sample in batch.samples]
        return [await v if inspect.isawaitable(v) else v for v in values]

    values: list[float | Verdict] = []
    for value in checked_batch(asyncio.run(run()), len(batch.samples)):
        if isinstance(value, Crash):
            raise AssertionError(f"{found.name}: {value.reason}")
        values.append(value)
    return values


def number(value: float | Verdict) -> float:
    """What a value adds to the reward before its weight."""
    return contribution(value)
