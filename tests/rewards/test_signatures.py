"""Functions and objects of every kind as rewards: what is a setting, and how they are called."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import numpy as np
import pytest
from kvl.rewards.plugins.signatures import UnusableSignature, function_of
from kvl.rewards.testing import make_batch, make_sample
from pydantic import Field, ValidationError
from trl.rewards.accuracy_rewards import accuracy_reward
from trl.rewards.format_rewards import think_format_reward

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

SAMPLE = make_sample("7", gold="7", question="What is 3 + 4?")


def called(target: Callable[..., Any], **settings: Any) -> Any:
    """What the function returns for a sample, or TRL's kind of function for two."""
    function = function_of(target)
    reward: Any = function.make(function.config.model_validate(settings))
    value = reward(SAMPLE) if function.per_sample else reward.grade(make_batch(SAMPLE, SAMPLE))

    async def awaited():
        return await value

    return asyncio.run(awaited()) if inspect.isawaitable(value) else value


def only(sample):
    return sample.tokens


def default(sample, scale=2):
    return scale


def keyword_only(sample, *, scale=2):
    return scale


def positional_only(sample, scale=2, /):
    return scale


def all_kinds(sample, first, /, second=1, *others, third, **more):
    return first, second, others, third, more


def variadic(sample, *args):
    return args


def stars(*args):
    return len(args)


def anything(sample, **kwargs):
    return kwargs


def only_keywords(**kwargs):
    return kwargs["sample"].tokens


def sample_by_keyword(*, sample, scale=2):
    return sample.tokens * scale


def sample_second(scale, sample):
    return scale * sample.tokens


async def asynchronous(sample, *, scale=2):
    await asyncio.sleep(0)
    return scale


def odd_names(sample, _limit=1, copy=2, model_config=3, json=4, schema=5, self=6):
    return _limit, copy, model_config, json, schema, self


def annotated(
    sample,
    url: str = None,  # type: ignore[assignment]  # noqa: RUF013
    limit: Optional[int] = None,  # noqa: UP045
    mode: Literal["a", "b"] = "a",
    share: Annotated[float, Field(ge=0, le=1)] = 0.5,
):
    return url, limit, mode, share


def unresolvable(sample: "Unknown", model: "Unknown" = 1, array: np.ndarray = None):  # type: ignore
    return model, array


def unserialisable(sample, key=len, pattern=SAMPLE):
    return key


@functools.wraps(default)
def wrapped(*args, **kwargs):
    return default(*args, **kwargs)


class Scorer:
    """An object that is called."""

    def __init__(self, offset=1):
        self.offset = offset

    def __call__(self, sample, scale=2):
        return self.offset + scale

    def method(self, sample, scale=2):
        return self.offset * scale

    @staticmethod
    def static(sample, scale=2):
        return scale

    @classmethod
    def of_class(cls, sample, scale=2):
        return scale


class AsyncScorer:
    async def __call__(self, sample, scale=2):
        return scale


@pytest.mark.parametrize(
    ("target", "settings", "value"),
    [
        (only, {}, 40),
        (default, {}, 2),
        (default, {"scale": 5}, 5),
        (keyword_only, {"scale": 5}, 5),
        (positional_only, {}, 2),
        (positional_only, {"scale": 5}, 5),
        (all_kinds, {"first": 1, "third": 3}, (1, 1, (), 3, {})),
        (all_kinds, {"first": 1, "third": 3, "x": 9, "second": 0}, (1, 0, (), 3, {"x": 9})),
        (variadic, {}, ()),
        (stars, {}, 1),
        (anything, {}, {}),
        (anything, {"a": 1, "b": [2], "sample_": 3}, {"a": 1, "b": [2], "sample_": 3}),
        (only_keywords, {"anything": 1}, 40),
        (sample_by_keyword, {"scale": 3}, 120),
        (sample_second, {"scale": 3}, 120),
        (asynchronous, {"scale": 3}, 3),
        (odd_names, {}, (1, 2, 3, 4, 5, 6)),
        (odd_names, {"_limit": 0, "copy": 0, "self": 0}, (0, 0, 3, 4, 5, 0)),
        (annotated, {}, (None, None, "a", 0.5)),
        (annotated, {"url": "x", "limit": 1, "mode": "b", "share": 1}, ("x", 1, "b", 1.0)),
        (unresolvable, {}, (1, None)),
        (unserialisable, {}, len),
        (wrapped, {"scale": 4}, 4),
        (functools.partial(default, scale=7), {}, 7),
        (functools.partial(default, scale=7), {"scale": 8}, 8),
        (functools.partial(sample_second, 2), {}, 80),
        (functools.partial(asynchronous, scale=7), {}, 7),
        (Scorer(), {"scale": 3}, 4),
        (Scorer(5).method, {"scale": 3}, 15),
        (Scorer.static, {"scale": 3}, 3),
        (Scorer.of_class, {"scale": 3}, 3),
        (AsyncScorer(), {"scale": 3}, 3),
        (lambda sample: 3, {}, 3),
    ],
)
def test_functions_of_a_sample_are_called_with_their_settings(target, settings, value):
    assert called(target, **settings) == value


@pytest.mark.parametrize(
    ("target", "settings", "named"),
    [
        (default, {"scael": 1}, "scael"),
        (variadic, {"args": 1}, "args"),
        (all_kinds, {"third": 3}, "first"),
        (annotated, {"mode": "c"}, "mode"),
        (annotated, {"share": 2}, "share"),
        (annotated, {"limit": "many"}, "limit"),
        (functools.partial(sample_second, 2), {"scale": 1}, "scale"),
        (lambda solution_str, ground_truth: 0, {"sample": 1}, "sample"),
        (lambda completions: [], {"prompt": 1}, "prompt"),
    ],
)
def test_settings_that_do_not_fit_are_named(target, settings, named):
    with pytest.raises(ValidationError) as error:
        function_of(target).config.model_validate(settings)
    assert [problem["loc"][0] for problem in error.value.errors()] == [named]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda: 1.0, "its first parameter must be the sample"),
        (lambda *, scale: 1.0, "its first parameter must be the sample"),
        (lambda sample, weight: 1.0, "parameter weight has the name of a key that every reward"),
        (lambda completions, workers: [1.0], "parameter workers has the name"),
        (max, "its parameters cannot be read"),
    ],
)
def test_functions_that_no_sample_can_be_given_to_say_why(target, message):
    with pytest.raises(UnusableSignature, match=message):
        function_of(target)


@pytest.mark.parametrize(
    ("target", "together"),
    [
        (asynchronous, True),
        (functools.partial(asynchronous, scale=1), True),
        (AsyncScorer(), True),
        (default, False),
        (Scorer(), False),
    ],
)
def test_async_functions_are_awaited_together(target, together):
    assert function_of(target).asynchronous is together


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return [data_source, solution_str, ground_truth, extra_info]


async def compute_score_async(data_source, solution_str, ground_truth, extra_info, **kwargs):
    return {"score": float(ground_truth in solution_str), "acc": True, "pred": kwargs}


def gsm8k(solution_str, ground_truth, method="strict", format_score=0.0, score=1.0):
    return score if method == "strict" else format_score


def test_verls_function_gets_what_verl_gives_it():
    source, text, gold, extra = called(compute_score)
    assert source == "contract"
    assert text == "◁think▷3 and 4 make 7.◁/think▷Answer: 7"
    assert gold == "7"
    assert extra["question"] == "What is 3 + 4?"
    assert extra["index"] == "contract/1"
    assert called(compute_score, data_source="openai/gsm8k")[0] == "openai/gsm8k"


def test_verls_functions_return_a_number_or_a_dict_with_the_score():
    assert called(compute_score_async, any_setting=1) == 1.0
    assert called(gsm8k) == 1.0
    assert called(gsm8k, method="flexible", format_score=0.1) == 0.1
    assert called(lambda solution_str, ground_truth: {"acc": 1.0}) == {"acc": 1.0}  # no score


def test_trls_function_gets_conversations_and_columns_as_lists():
    def reward(completions, answer, **kwargs):
        assert len(completions) == len(answer) == 2
        return completions[0], answer[0], kwargs

    (message,), answer, columns = called(reward)
    assert message == {
        "role": "assistant",
        "content": "◁think▷3 and 4 make 7.◁/think▷Answer: 7",
    }
    assert answer == "7"
    assert columns["prompts"][1] == [{"role": "user", "content": "What is 3 + 4?"}]
    assert columns["solution"] == ["7", "7"]
    assert columns["trainer_state"] is None
    columns["log_metric"]("a", 1.0)
    columns["log_extra"]("b", ["x"])


def test_trls_function_gets_text_when_the_config_says_so():
    def reward(prompts, completions, scale=1.0):
        return prompts[0], completions[0], scale

    prompt, completion, scale = called(reward, conversational=False, scale=2.0)
    assert prompt == "What is 3 + 4?"
    assert completion.endswith("Answer: 7")
    assert scale == 2.0


def test_trls_own_rewards_work_unchanged():
    function = function_of(accuracy_reward)
    reward: Any = function.make(function.config())
    batch = make_batch(make_sample("\\boxed{7}", gold="7"), make_sample("\\boxed{8}", gold="7"))
    assert reward.grade(batch) == [1.0, 0.0]
    assert called(think_format_reward) == [0.0, 0.0]  # its markers are <think>
