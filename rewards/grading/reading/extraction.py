"""The one final answer a response commits to under the strict `rl` policy.

Only the text after `◁/think▷` is read: the thinking is never searched (spec/algorithm.md §2, after
Kimi-VL report fig. 5). A response that is malformed, or that commits to nothing or to two different
things, has no answer.
"""

from __future__ import annotations

from ....problems.prompt import THINK_CLOSE, THINK_OPEN
from .choice import named_letter
from .commitments import Commitment, boxes, holds_box, phrases
from .hedges import without_assignment
from .normalization import comparable, narrow, unwrap_box
from .units import split_unit

END_OF_TURN = "<|im_end|>"
MAX_ANSWER_CHARACTERS = 500
MAX_BARE_TAIL_CHARACTERS = 100
# A summary after the thinking is a page at most; more is a loop, and would cost time to search.
MAX_TAIL_CHARACTERS = 30_000


class NoAnswer(Exception):
    """The response cannot be graded because it holds no usable answer; the message says why."""


def extract_answer(response: str) -> Commitment:
    """The final answer of a whole response, without its introduction ("Answer: 12" -> "12").

    Offsets are those of `response`. Raises `NoAnswer` if the thinking markers are wrong, the
    thinking is empty, or the text after it does not commit to exactly one answer.
    """
    start, end = answer_region(response)
    found = committed_answer(response[start:end])
    return Commitment(found.text, start + found.start, start + found.end, found.kind)


def answer_region(response: str) -> tuple[int, int]:
    """Where the text after the thinking stands, without the end-of-turn token.

    Raises `NoAnswer` unless there is one opening marker, some thinking, and one closing marker.
    """
    if response.count(THINK_OPEN) != 1 or response.count(THINK_CLOSE) != 1:
        raise NoAnswer(f"needs exactly one {THINK_OPEN} and one {THINK_CLOSE}")
    opened = response.index(THINK_OPEN) + len(THINK_OPEN)
    closed = response.index(THINK_CLOSE)
    if closed < opened:
        raise NoAnswer(f"{THINK_CLOSE} comes before {THINK_OPEN}")
    if not response[opened:closed].strip():
        raise NoAnswer("empty thinking")
    start = closed + len(THINK_CLOSE)
    tail = response[start:].rstrip().removesuffix(END_OF_TURN).rstrip()
    start += len(tail) - len(tail.lstrip())
    return start, start + len(tail.lstrip())


def committed_answer(tail: str) -> Commitment:
    r"""The one answer of the tail: `\boxed{X}`, "Answer: X", "答案是X" or a bare short tail.

    Raises `NoAnswer` if there is none, if there are several, or if it is too long.
    """
    if not tail:
        raise NoAnswer("nothing after the thinking")
    if len(tail) > MAX_TAIL_CHARACTERS:
        raise NoAnswer("text after the thinking too long")
    tail = narrow(tail)
    boxed, cut_off = boxes(tail)
    if cut_off:
        raise NoAnswer("unbalanced \\boxed")
    introduced = phrases(tail)
    if boxed or introduced:
        answer = _agreed(boxed, introduced)
    elif len(tail) <= MAX_BARE_TAIL_CHARACTERS:
        answer = Commitment(tail, 0, len(tail), "phrase")
    else:
        raise NoAnswer("no committed answer")
    if not comparable(answer.text):
        raise NoAnswer("empty answer")
    return answer


def _agreed(boxed: list[Commitment], introduced: list[Commitment]) -> Commitment:
    """The answer on which all commitments agree; raises `NoAnswer` if they do not."""
    # A sentence around a box says what the box says: "The answer is $\boxed{5}$ apples".
    commitments = boxed + [phrase for phrase in introduced if not holds_box(phrase.text)]
    distinct = {commitment.text: commitment for commitment in reversed(commitments)}
    # Before any work on them: a looping response can hold very long ones.
    if any(len(answer) > MAX_ANSWER_CHARACTERS for answer in distinct):
        raise NoAnswer("answer too long")
    answers = [unwrap_box(answer) for answer in distinct]
    # "C" and "(C) 12 cm" are one commitment.
    if len({_value(answer) for answer in answers}) > 1:
        letters = {named_letter(answer) for answer in answers}
        if len(letters) > 1 or None in letters:
            raise NoAnswer("several different answers")
    first = commitments[0]
    return Commitment(unwrap_box(first.text), first.start, first.end, first.kind)


def _value(answer: str) -> str:
    """The answer without what may be left out: "x = 4 cm" and "4" are one commitment."""
    value, _ = split_unit(answer)
    return comparable(without_assignment(value, gold="")).removeprefix(r"\$")
