"""Values, expressions, lists and texts in free-form responses (`eval` policy)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .commitments import Commitment, boxes
from .expression import compare
from .extraction import NoAnswer
from .free_form import (
    MAX_BARE_CHARACTERS,
    concluding_sentences,
    final_commitment,
    is_cut_off,
)
from .hedges import is_value, says_more, without_assignment
from .listed import compare_lists
from .math_pool import MathJob
from .normalization import comparable, narrow, plain
from .number import PlainNumber, parse_number
from .units import split_unit
from .values import math_segments, offers_several, stated_number

_LABELLED_LINE = re.compile(r"(?:^|\n)\s*(?:A|Ans|ANS|Result|答)\s*[:=]\s*([^\n]+)\s*$")
_SPACED_LIST = re.compile(r"[-+]?\d+(?:\.\d+)?(?: [-+]?\d+(?:\.\d+)?)+")
_REFUSES = re.compile(
    r"\b(?:sorry|cannot be (?:determined|answered|calculated)|unable to|not (?:enough|sufficient)"
    r"|(?:impossible|not possible) to|(?:does not|doesn't) provide|cannot (?:determine|provide|answer|see)"
    r"|can't (?:determine|provide|answer|assist|help|see)|no information)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold answer, read once: its value without box and dollar signs, and what it is."""

    text: str
    number: PlainNumber | None
    several: bool
    spaced: bool

    @classmethod
    def read(cls, answer: str) -> Gold:
        found, _ = boxes(answer)
        text = ", ".join(box.text for box in found) if found else answer
        if not found and len(answer) > 200 and (committed := final_commitment(answer)):
            text = committed.text
        number = parse_number(split_unit(text)[0])
        several = len(found) > 1 or bool(re.search(r"[,;]|\band\b", text)) and number is None
        spaced = _SPACED_LIST.fullmatch(text.strip()) is not None and number is None
        return cls(text.strip(), number, several or spaced, spaced)


def find_and_compare(
    text: str, answer: str, precision: int | None
) -> tuple[Commitment, bool | MathJob]:
    """The response's final value and whether it equals the gold answer, or the job that tells.

    Raises `NoAnswer` if the response commits to no value.
    """
    text = narrow(text)
    gold = Gold.read(answer)
    committed = final_commitment(text, gold.several)
    if committed is None and (label := _LABELLED_LINE.search(text)):
        committed = Commitment(label[1].strip(), label.start(1), label.end(1), "phrase")
    if committed is not None:
        return _judge(committed, gold, precision, short=True)
    stripped = text.strip()
    if len(stripped) <= MAX_BARE_CHARACTERS and "\n" not in stripped:
        lead = len(text) - len(text.lstrip())
        bare = Commitment(stripped, lead, lead + len(stripped), "phrase")
        if is_value(plain(stripped)):
            return _judge(bare, gold, precision, short=True)
    if is_cut_off(text):
        raise NoAnswer("cut off")
    for offset, sentence in concluding_sentences(text):
        if _REFUSES.search(sentence):
            continue
        if gold.number is not None and not _states_one_number(sentence):
            continue
        found = Commitment(sentence, offset, offset + len(sentence), "phrase")
        return _judge(found, gold, precision, short=False)
    raise NoAnswer("no committed answer")


def _states_one_number(sentence: str) -> bool:
    stated = stated_number(sentence, short=False)
    return stated is not None and not offers_several(sentence.rpartition("=")[2] or sentence)


def _judge(
    found: Commitment, gold: Gold, precision: int | None, short: bool
) -> tuple[Commitment, bool | MathJob]:
    text = found.text
    if comparable(text) == comparable(gold.text):
        return found, True
    if not comparable(text):
        raise NoAnswer("empty answer")
    if gold.number is not None:
        return _judge_number(found, gold, precision, short)
    if gold.spaced:
        return found, compare_lists(gold.text.replace(" ", ","), text, lenient=True)
    reduced = _reduce(text, gold)
    result = Commitment(reduced, found.start, found.end, found.kind)
    return result, compare(gold.text, reduced, lenient=True)


def _judge_number(
    found: Commitment, gold: Gold, precision: int | None, short: bool
) -> tuple[Commitment, bool | MathJob]:
    assert gold.number is not None
    text = found.text
    value, _ = split_unit(text)
    number = parse_number(value)
    if number is not None:
        return found, gold.number.accepts(number, precision=precision, lenient=True)
    if is_value(plain(text)):
        return found, compare(gold.text, text, lenient=True)
    if is_value(value := without_assignment(plain(text), gold.text, lenient=True)):
        return found, compare(gold.text, value, lenient=True)
    segments = math_segments(text)
    if short and len(segments) == 1 and is_value(plain(segments[0])):
        result = Commitment(segments[0], found.start, found.end, found.kind)
        return result, compare(gold.text, segments[0], lenient=True)
    stated_part = text.rpartition("=")[2] or text
    if offers_several(stated_part):
        return found, False
    stated = stated_number(text, short)
    if stated is None:
        return found, False
    spelled, start, end = stated
    result = Commitment(spelled, found.start + start, found.start + end, found.kind)
    number = parse_number(split_unit(spelled)[0])
    if number is None:
        return result, compare(gold.text, spelled, lenient=True)
    return result, gold.number.accepts(number, precision=precision, lenient=True)


def _reduce(text: str, gold: Gold) -> str:
    """The value inside a committed phrase or sentence, for a gold that is no plain number."""
    if is_value(plain(text)) and not says_more(plain(text), plain(gold.text)):
        return text
    segments = math_segments(text)
    if segments and not gold.several:
        return segments[-1]
    if segments:
        return ", ".join(segments)
    return text
