"""Values, expressions, lists and texts in free-form responses (`eval` policy)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .expression import compare
from .listed import compare_lists, names_several
from .math_pool import MathJob
from .reading.commitments import Commitment, holds_box
from .reading.conclusion import result_part
from .reading.denials import is_bound, is_taken_back
from .reading.extraction import NoAnswer
from .reading.free_form import (
    MAX_BARE_CHARACTERS,
    concluding_sentences,
    final_commitment,
    is_cut_off,
)
from .reading.hedges import is_value, says_more, without_assignment
from .reading.normalization import comparable, narrow, plain
from .reading.number import PlainNumber, parse_number
from .reading.units import split_unit, unit_after, units_agree
from .reading.values import math_segments, numbers, offers_several, stated_number

MAX_GOLD_CHARACTERS = 200

_LABELLED_LINE = re.compile(r"(?:^|\n)\s*(?:A|Ans|ANS|Result|答)\s*[:=]\s*([^\n]+)\s*$")
_DIGIT = re.compile(r"\d")
_STATES = re.compile(r"\b(?:is|are|was|be|equals|shows|reads|gives|get|becomes)\b")
_POINT = re.compile(r"(?<![A-Za-z\d\\])[(\[][^()\[\]]*,[^()\[\]]*[)\]](?=[\s.*]*$)")
_SPACED_LIST = re.compile(r"[-+]?\d+(?:\.\d+)?(?: [-+]?\d+(?:\.\d+)?)+")
_REFUSES = re.compile(
    r"\b(?:sorry|cannot be (?:determined|answered|calculated)|unable to|not (?:enough|sufficient)"
    r"|(?:impossible|not possible) to|(?:does not|doesn't) provide|no information"
    r"|(?:cannot|can't) (?:determine|provide|answer|assist|help|see))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold answer, read once: its value without box and dollar signs, and what it is."""

    text: str
    number: PlainNumber | None
    unit: str | None
    several: bool
    spaced: bool

    @classmethod
    def read(cls, answer: str) -> Gold:
        text = answer
        if (holds_box(answer) or len(answer) > MAX_GOLD_CHARACTERS) and (
            committed := final_commitment(answer, several=True)
        ):
            text = committed.text  # a worked solution, as data sets of problems have them
        value, unit = split_unit(text, glued=True)
        number = parse_number(value, decimal_comma=", " not in text)
        several = number is None and names_several(text)
        spaced = _SPACED_LIST.fullmatch(text.strip()) is not None and number is None
        return cls(text.strip(), number, unit, several or spaced, spaced)


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
        if gold.number is not None:
            if (part := result_part(sentence)) is None:
                continue
            offset, sentence = offset + part[0], part[1]
        found = Commitment(sentence, offset, offset + len(sentence), "phrase")
        return _judge(found, gold, precision, short=False)
    raise NoAnswer("no committed answer")


def _is_qualified(text: str, value: str) -> bool:
    """Whether the words beside a value inside a text deny or only bound it."""
    start = text.rfind(value)
    end = start + len(value)
    return start >= 0 and (is_taken_back(text, start, end) or is_bound(text, start, end))


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
    if _is_qualified(text, reduced):
        return found, False
    result = Commitment(reduced, found.start, found.end, found.kind)
    if gold.several and compare_lists(gold.text, reduced, lenient=True) is True:
        return result, True
    return result, compare(gold.text, reduced, lenient=True, precision=precision)


def _judge_number(
    found: Commitment, gold: Gold, precision: int | None, short: bool
) -> tuple[Commitment, bool | MathJob]:
    assert gold.number is not None
    text = found.text
    value, unit = split_unit(text, glued=True)
    number = parse_number(value, decimal_comma=True)
    if number is not None:
        if not units_agree(gold.unit, unit):
            return found, False
        return found, gold.number.accepts(number, precision=precision, lenient=True)
    if is_value(plain(text)):
        return found, compare(gold.text, text, lenient=True, precision=precision)
    if is_value(value := without_assignment(plain(text), gold.text, lenient=True)):
        return found, compare(gold.text, value, lenient=True)
    segments = [segment for segment in math_segments(text) if _DIGIT.search(segment)]
    if len(segments) == 1 and is_value(plain(segments[0])) and not numbers(_outside(text)):
        if _is_qualified(text, segments[0]):
            return found, False
        result = Commitment(segments[0], found.start, found.end, found.kind)
        return result, compare(gold.text, segments[0], lenient=True)
    stated_part = text.rpartition("=")[2] or text
    if offers_several(stated_part):
        return found, False
    stated = stated_number(text, short)
    if stated is None:
        return found, False
    spelled, start, end = stated
    if is_taken_back(text, start, end) or is_bound(text, start, end):
        return found, False
    if not units_agree(gold.unit, unit_after(text, end) or split_unit(spelled)[1]):
        return found, False
    result = Commitment(spelled, found.start + start, found.start + end, found.kind)
    number = parse_number(split_unit(spelled)[0], decimal_comma=True)
    if number is None:
        return result, compare(gold.text, spelled, lenient=True)
    return result, gold.number.accepts(number, precision=precision, lenient=True)


def _outside(text: str) -> str:
    """The text without its mathematical segments."""
    for segment in math_segments(text):
        text = text.replace(segment, " ", 1)
    return text


def _reduce(text: str, gold: Gold) -> str:
    """The value inside a committed phrase or sentence, for a gold that is no plain number."""
    if is_value(plain(text)) and not says_more(plain(text), plain(gold.text)):
        return text
    segments = [segment for segment in math_segments(text) if segment and is_value(plain(segment))]
    segments = [one for one in segments if not _is_qualified(text, one)] or segments
    if text.count("$") > 1 and (not segments or text.count("$") % 2):
        segments = [text.rsplit("$", 2)[1]]  # an odd dollar sign paired the others wrongly
    if not segments:
        stated = _STATES.split(text)[-1]
        alone = stated.count("(") + stated.count("[") == 1
        if alone and (point := _POINT.search(stated)) and is_value(plain(point[0])):
            return point[0]  # "the vertex is at (3, -2)"
        return stated if stated.strip(" .") and is_value(plain(stated)) else text
    return ", ".join(segments) if gold.several else segments[-1]
