"""Every built-in reward against its formula."""

import pytest
from kvl.problems.types import AnswerType
from kvl.rewards.builtin import (
    Accuracy,
    Budget,
    Format,
    Length,
    Overlong,
    Repetition,
    Toggle,
)
from kvl.rewards.length import overlong_penalty
from kvl.rewards.repetition import repeated_share
from kvl.rewards.testing import make_batch, make_sample
from pydantic import ValidationError

RIGHT, WRONG = "7", "8"


def batch_of(*lengths_and_answers, iteration=0, truncated=()):
    samples = [
        make_sample(answer, tokens=tokens, truncated=index in truncated)
        for index, (tokens, answer) in enumerate(lengths_and_answers)
    ]
    return make_batch(*samples, iteration=iteration)


def test_accuracy_is_raw_correctness_and_a_cut_response_is_wrong():
    batch = batch_of((10, RIGHT), (10, WRONG), (10, RIGHT), truncated=(2,))
    assert Accuracy(Accuracy.Config()).grade(batch) == [1.0, 0.0, 0.0]


def test_length_branches_on_raw_correctness():
    batch = batch_of((100, WRONG), (200, RIGHT), (300, WRONG))
    assert Length(Length.Config()).grade(batch) == [0.0, 0.0, -0.5]
    near = batch_of((100, RIGHT), (101, RIGHT), (100, RIGHT))
    assert Length(Length.Config()).grade(near) == [0.5, -0.5, 0.5]
    assert Length(Length.Config(min_spread=1)).grade(near) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("length", "penalty"), [(0, 0), (800, 0), (850, -0.25), (900, -0.5), (1000, -1), (5000, -1)]
)
def test_overlong_is_flat_then_linear_then_one(length, penalty):
    assert overlong_penalty(length, 1000, 200) == pytest.approx(penalty)
    reward = Overlong(Overlong.Config(max_tokens=1000, cache_tokens=200))
    assert reward.grade(batch_of((length, RIGHT))) == pytest.approx([penalty])


def test_overlong_refuses_a_cache_longer_than_the_response():
    with pytest.raises(ValidationError, match="must not exceed max_tokens"):
        Overlong.Config(max_tokens=100, cache_tokens=200)


def test_budget_counts_what_is_over_it_or_cut():
    reward = Budget(Budget.Config(tokens=100))
    batch = batch_of((100, RIGHT), (101, RIGHT), (50, RIGHT), truncated=(2,))
    assert reward.grade(batch) == [0.0, -1.0, -1.0]
    short = Budget(Budget.Config(tokens=100, by_answer_type={AnswerType.NUMBER: 40}))
    assert short.grade(batch_of((50, RIGHT))) == [-1.0]


def test_toggle_cancels_correctness_over_the_budget_in_even_phases_only():
    reward = Toggle(Toggle.Config(period=2, percentile=0.5, min_accuracy=0.5))
    samples = ((100, RIGHT), (200, RIGHT), (300, RIGHT), (400, WRONG))
    for iteration, expected in (
        (0, [0.0, 0.0, -1.0, 0.0]),
        (1, [0.0, 0.0, -1.0, 0.0]),
        (2, [0.0] * 4),
        (3, [0.0] * 4),
        (4, [0.0, 0.0, -1.0, 0.0]),
    ):
        assert reward.grade(batch_of(*samples, iteration=iteration)) == expected


def test_toggle_leaves_hard_problems_alone():
    reward = Toggle(Toggle.Config(min_accuracy=0.5))
    reward.grade(batch_of((100, RIGHT), (100, RIGHT)))
    hard = batch_of((500, RIGHT), (100, WRONG), (100, WRONG))
    assert reward.grade(hard) == [0.0, 0.0, 0.0]


def test_toggle_estimates_a_budget_once_and_keeps_it_over_a_restart():
    reward = Toggle(Toggle.Config())
    assert reward.grade(batch_of((100, WRONG), (50, WRONG))) == [0.0, 0.0]
    reward.grade(batch_of((100, RIGHT), (100, RIGHT)))
    resumed = Toggle(Toggle.Config())
    resumed.load_state_dict(reward.state_dict())
    assert resumed.grade(batch_of((400, RIGHT), (500, RIGHT))) == [-1.0, -1.0]


@pytest.mark.parametrize(
    ("thinking", "answer", "value"),
    [("some", "7", 1.0), ("", "7", 0.0), ("  \n", "7", 0.0), ("some", "", 1.0)],
)
def test_format_cannot_be_had_with_empty_thinking(thinking, answer, value):
    sample = make_sample(answer, thinking=thinking)  # its answer is written "Answer: …"
    assert Format(Format.Config()).grade(make_batch(sample)) == [value]


def test_format_needs_an_end():
    cut = make_sample("7", truncated=True)
    assert Format(Format.Config()).grade(make_batch(cut)) == [0.0]


def test_repetition_is_the_share_of_phrases_said_before():
    assert repeated_share("a b a b a b", 2) == pytest.approx(0.6)
    assert repeated_share("each word here is new", 2) == 0.0
    assert repeated_share("short", 8) == 0.0
    assert repeated_share("再来一次再来一次再来一次", 4) > 0.5
    looping = make_sample("7", thinking="Let me check this once more. " * 50)
    (value,) = Repetition(Repetition.Config()).grade(make_batch(looping))
    assert -1.0 < value < -0.9
