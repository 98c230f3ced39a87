"""Which responses become rows, and that a kept one trains back to its very text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kvl.evaluation.records import Response, pass_rate
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.problems.prompt import target_text
from kvl.problems.types import Problem
from kvl.rewards.types import Outcome
from kvl.rollouts.types import StopReason
from kvl.sft.data import build_dataset
from kvl.sft.distill_selection import (
    demonstration,
    diverse,
    longer_negatives,
    shortest,
    usable,
)

MakeProblem = Callable[..., Problem]


def thought(thinking: str, answer: str = "Answer: 7") -> str:
    return f"◁think▷{thinking}◁/think▷{answer}"


def response(sample: int, text: str, tokens: int = 10, **changes: Any) -> Response:
    fields = {"outcome": Outcome.CORRECT, "stop_reason": StopReason.STOP} | changes
    return Response(sample, text, tokens, **fields)


def test_the_shortest_usable_response_is_kept() -> None:
    responses = [
        response(0, thought("long and right"), 30),
        response(1, thought("short but wrong"), 5, outcome=Outcome.INCORRECT),
        response(2, thought("cut"), 6, stop_reason=StopReason.LENGTH),
        response(3, thought("short and right"), 20),
        response(4, thought("as short"), 20),
    ]
    assert shortest(responses) == responses[3]
    assert shortest(responses[1:3]) is None


@pytest.mark.parametrize(
    "text",
    [
        "Answer: 7",
        " " + thought("I see 7."),
        "Well. " + thought("I see 7."),
        thought("  "),
        thought("I see 7.", ""),
        thought("I see 7.", "◁/think▷Answer: 7"),
        thought("I see 7.") + "<|im_end|>",
        thought("I see \ufffd 7."),
    ],
)
def test_a_response_whose_format_is_not_exact_is_never_kept(text: str) -> None:
    assert not usable(response(0, text))


@pytest.mark.parametrize(
    ("text", "verbatim"),
    [
        (thought("I see 7."), False),
        (thought("\nI see 7.\n"), True),
        (thought("I see 7.", "\n\nThe answer is $\\boxed{7}$.\n"), True),
    ],
)
def test_a_kept_response_trains_back_to_its_very_text(
    make_problem: MakeProblem, processor: KimiVLProcessor, text: str, verbatim: bool
) -> None:
    written = demonstration(make_problem(7), response(0, text))
    assert target_text(written) == text
    assert (written.conclusion is not None) == verbatim
    dataset, _ = build_dataset([written], processor, 512)
    row = dataset[0]
    reply = row["input_ids"][-row["reply_tokens"] :]
    assert processor.tokenizer.decode(reply) == text + "<|im_end|>"


def test_diverse_starts_from_the_shortest_and_takes_the_farthest_next() -> None:
    responses = [
        response(0, thought("count the red dots one by one"), 12),
        response(1, thought("count the red dots two by two"), 13),
        response(2, thought("read label, done"), 14),
        response(3, thought("count the red dots one by one"), 11),
        response(4, thought("count the red dots one by one"), 12, outcome=Outcome.INCORRECT),
    ]
    assert [r.sample for r in diverse(responses, 2)] == [3, 2]
    # Sample 0 holds the same words as sample 3: a copy is never worth a row.
    assert [r.sample for r in diverse(responses, 9)] == [3, 2, 1]
    assert diverse(responses[4:], 9) == []


def test_diverse_sees_differences_in_chinese() -> None:
    texts = ("先数红点再相加", "先数红点再相减", "直接读数")
    responses = [response(i, thought(text), 10 + i) for i, text in enumerate(texts)]
    assert [r.sample for r in diverse(responses, 2)] == [0, 2]


def test_pairs_reject_longer_wrong_ones_and_correct_ones_half_as_long_again() -> None:
    chosen = response(0, thought("short"), 20)
    wrong = {"outcome": Outcome.INCORRECT}
    rejected = [
        response(1, thought("wrong and longer"), 21, **wrong),
        response(2, "no answer at all", 40, outcome=Outcome.NO_ANSWER),
        response(3, thought("right, 1.5 times"), 30),
    ]
    spared = [
        response(4, thought("wrong but as short"), 20, **wrong),
        response(5, thought("right, 1.45 times"), 29),
        response(6, thought("ungraded"), 60, outcome=Outcome.TIMEOUT),
        response(7, thought("cut"), 64, stop_reason=StopReason.LENGTH, **wrong),
        response(8, thought("right, 1.5 times"), 31),
    ]
    assert longer_negatives(chosen, [chosen, *rejected, *spared]) == rejected


def test_the_pass_rate_is_over_graded_responses() -> None:
    responses = [
        response(0, thought("a")),
        response(1, thought("b"), outcome=Outcome.INCORRECT),
        response(2, thought("c"), outcome=Outcome.INVALID),
        response(3, thought("d"), stop_reason=StopReason.LENGTH),
    ]
    assert pass_rate(responses) == pytest.approx(1 / 3)
    assert pass_rate(responses[2:3]) is None
