"""Problems → rollouts → verdicts → groups: the first half of an iteration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...configs.errors import KVLError
from ...configs.rl import RLConfig
from ...evaluation.evaluate import Answered, grade_rollouts
from ...rollouts.types import RolloutFailure, SamplingSettings
from ..schedule import max_response_tokens, temperature
from ..types import Group
from .groups import build_groups, rewarded

if TYPE_CHECKING:
    from .loop import Run


@dataclass(slots=True)
class Collected:
    """Everything sampled for an iteration, and the groups of it that are trained on."""

    answered: list[Answered] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    failures: list[RolloutFailure] = field(default_factory=list)
    refills: int = 0
    waiting: int = 0


def collect(run: Run, iteration: int) -> Collected:
    """k responses to each of the iteration's problems, graded and grouped.

    With `rollout.degenerate_groups: refill` (DAPO's dynamic sampling, arXiv 2503.14476), groups
    whose samples are all right or all wrong are left out and other problems take their place, for
    at most `rollout.max_refills` further rounds. With `rollout.truncated: continue`, responses cut
    by the iteration's cap go on under the next weights, and their group waits in `run.partial`; if
    all groups wait, this iteration goes on with them. Raises KVLError when no group is left.
    """
    config, recorder = run.config, run.recorder
    wanted = config.rollout.problems_per_iteration
    refill = config.rollout.degenerate_groups == "refill"
    mask = config.rollout.truncated == "mask"
    result = Collected()
    for round_number in range(rounds(config, iteration)):
        result.refills = round_number
        with recorder.stage("rollout"):
            room = wanted - len(result.groups) - len(run.partial)
            problems = run.sampler.next(room, iteration) if room > 0 else []
            problems = [one for one in problems if one.id not in run.partial.waiting]
            rollouts, failures = run.fleet.generate(
                problems, sampling(config, iteration, round_number), run.partial.unfinished()
            )
            problems, rollouts = run.partial.take(problems, rollouts)
        with recorder.stage("grade"):
            answered = grade_rollouts(run.grader, problems, rollouts)
            run.sampler.update({a.problem.id: s for a in answered if (s := a.accuracy) is not None})
            answered = rewarded(answered, run.rewards, iteration, mask)
            groups = build_groups(answered, config.objective, mask)
        # At once: what cannot be rolled out must not be asked for again in the next round.
        for failure in failures:
            run.sampler.exclude(failure.problem_id)
            run.partial.drop(failure.problem_id)
            recorder.failure(iteration, failure.problem_id, failure.reason)
        result.answered += answered
        result.failures += failures
        result.groups += [group for group in groups if not (refill and is_degenerate(group))]
        if len(result.groups) >= (wanted if refill else 1):
            break
    if not result.groups:
        raise KVLError(
            f"iteration {iteration}: none of {len(result.answered) + len(result.failures)} "
            "problems gave a group to train on"
            + ("; every group was all right or all wrong" if refill else "")
        )
    result.waiting = len(run.partial)
    return result


def is_degenerate(group: Group) -> bool:
    """All right or all wrong: without advantage, but not without the τ term (fact A8)."""
    return len(set(group.accuracies)) == 1


def rounds(config: RLConfig, iteration: int) -> int:
    """At most so many calls of the fleet: refills, or until the longest response is finished."""
    rollout = config.rollout
    if rollout.max_total_tokens is not None:
        return -(-rollout.max_total_tokens // max_response_tokens(config, iteration))
    return 1 + (rollout.max_refills if rollout.degenerate_groups == "refill" else 0)


def sampling(config: RLConfig, iteration: int, round_number: int = 0) -> SamplingSettings:
    # A further round goes on with the same samples: it needs random numbers of its own.
    seed = config.seed * 1_000_003 + iteration + round_number * 1_000_000_007
    return SamplingSettings(
        samples=config.rollout.samples_per_problem,
        temperature=temperature(config, iteration),
        max_response_tokens=max_response_tokens(config, iteration),
        seed=seed,
        max_total_tokens=config.rollout.max_total_tokens,
    )
