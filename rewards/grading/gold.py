"""Gold answers: do they fit their answer type, and can any answer meet them?

A gold answer that no answer can meet makes every sample of its problem invalid, or wrong; so
`check_gold` finds it before anything is trained.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from ...problems.types import CHOICE_LETTERS, AnswerType
from ..types import GradeRequest
from .clock import parse_time
from .complexity import refusal
from .expression import counted, in_radians
from .listed import selected_letters, split_list, truth_value
from .math_worker import Comparison, GoldError, holds
from .ranges import parse_range
from .reading.commitments import boxes
from .reading.hedges import is_value, without_assignment
from .reading.normalization import comparable, narrow, plain, unwrap_box
from .reading.number import parse_number
from .reading.units import split_unit
from .solutions import is_alternative, parse_solutions

POLAR = frozenset(
    ["true", "false", "yes", "no", "正确", "错误", "对", "错", "是", "否", "不对", "不是", "不正确"]
)
_SUM_OF_LETTERS = re.compile(r"[A-Za-z)]\s*\+\s*[A-Za-z(]")
_ORDINAL = re.compile(r"\d+ ?(?:st|nd|rd|th)\b", re.IGNORECASE)
_FINAL_LINE = re.compile(r"^####\s*(.+?)\s*$", re.MULTILINE)
_VALUES = (AnswerType.NUMBER, AnswerType.EXPRESSION, AnswerType.OPEN)


class BadGold(ValueError):
    """The gold answer does not fit its answer type; the row, not the response, is at fault."""


def check_gold(request: GradeRequest) -> None:
    """Raises `BadGold`, naming the gold answer, if one of those accepted can never be met.

    It does not fit its answer type, names an option there is none of, cannot be parsed, or has no
    value that equals itself (0/0). The response is not looked at. The first gold answer that needs
    a parser loads sympy, which takes a second; each takes a few milliseconds after that.
    """
    check_type(request)
    for answer in request.answers:
        single = replace(request, answer=answer)
        match resolved_type(single):
            case AnswerType.NUMBER:
                _check_value(final_value(answer), numeric=single.answer_type is AnswerType.NUMBER)
            case AnswerType.EXPRESSION:
                _check_value(final_value(answer), numeric=False)
            case AnswerType.LIST:
                for item in split_list(answer):
                    _check_value(item, numeric=False)


def check_type(request: GradeRequest) -> None:
    """Raises `BadGold` if a gold answer does not fit its answer type; quick, parses no value."""
    if not request.answers:
        raise BadGold("no gold answer")
    for answer in request.answers:
        _check_type(answer, request.answer_type, len(request.options))


def _check_type(gold: str, kind: AnswerType, options: int) -> None:
    if not gold.strip():
        raise BadGold("empty gold answer")
    letters = CHOICE_LETTERS[: options or None]
    known = f"({letters[0]}-{letters[-1]})"
    if kind is AnswerType.CHOICE:
        letter = gold_letter(gold)
        if letter is None or letter not in letters:
            raise BadGold(f"gold answer {gold!r} is not an option letter {known}")
    elif kind is AnswerType.MULTI_SELECT:
        if not (selected := selected_letters(gold, whole=True)) or not selected <= set(letters):
            raise BadGold(f"gold answer {gold!r} is not a set of option letters {known}")
    elif kind is AnswerType.BOOL and truth_value(gold) is None:
        raise BadGold(f"gold answer {gold!r} is neither true nor false")
    elif kind is AnswerType.LIST:
        items = split_list(gold)
        if not items:
            raise BadGold(f"gold answer {gold!r} is an empty list")
        if options and all(re.fullmatch(r"\W*[A-Z]\W*", item) for item in items):
            named = set(re.findall(r"[A-Z]", "".join(items)))
            if not named <= set(letters):
                raise BadGold(f"gold answer {gold!r} names options past the last {known}")


def gold_letter(gold: str) -> str | None:
    """ "B", "(b)" and "B." are the letter B."""
    match = re.fullmatch(r"\s*[(\[]?\s*([A-Za-z])\s*[)\]]?\.?\s*", narrow(gold))
    return match[1].upper() if match else None


def final_value(gold: str) -> str:
    """The value of a gold answer that is a worked solution: its last box, or its `#### 72` line.

    Several boxes in the last sentence are parts of one answer, which is left as it is.
    """
    if unwrap_box(gold) != gold.strip():
        return gold
    found, _ = boxes(gold)
    if found:
        before = gold[: found[-1].start]
        sentence = max(before.rfind(end) for end in (". ", "\n", ".$"))
        parts = [one for one in found if one.start > sentence]
        return found[-1].text if len(parts) == 1 else gold
    lines = _FINAL_LINE.findall(gold)
    return lines[-1] if lines else gold


def resolved_type(request: GradeRequest) -> AnswerType:
    """The answer type with `open` replaced by what the (first) gold answer looks like."""
    if request.answer_type is not AnswerType.OPEN:
        return request.answer_type
    gold = request.answers[0]
    if parse_number(split_unit(gold)[0]) is not None:
        return AnswerType.NUMBER
    if gold.strip().casefold() in POLAR:
        return AnswerType.BOOL
    if _ORDINAL.fullmatch(gold.strip()):
        return AnswerType.TEXT
    if re.search(r"[\\^=_√π]|\d", gold):
        return AnswerType.EXPRESSION
    if _SUM_OF_LETTERS.search(gold) and is_value(plain(gold)):
        return AnswerType.EXPRESSION
    return AnswerType.TEXT


@lru_cache(maxsize=4096)
def _check_value(gold: str, numeric: bool) -> None:
    if not comparable(gold):
        raise BadGold(f"gold answer {gold!r} is empty without its typesetting")
    if parse_time(gold) is not None or parse_range(gold) is not None:
        return
    if is_alternative(gold) and (solutions := parse_solutions(gold)):
        for solution in solutions:
            _check_single(solution.value, gold, numeric)
        return
    _check_single(gold, gold, numeric)


def _check_single(value: str, gold: str, numeric: bool) -> None:
    value = split_unit(value, glued=True)[0]
    if noun := counted(value):
        value = noun[0]
    value = plain(without_assignment(value, gold=""))
    if parse_number(value, decimal_comma=True) is not None:
        return
    if not is_value(value):
        if numeric:
            raise BadGold(f"gold answer {gold!r} is not a number")
        return  # words, which only the same words meet
    if refusal(value):
        return  # too large for the parser: only the same spelling meets it
    for part in value.split(":") if ":" in value and "=" not in value else (value,):
        if parse_number(part) is None:
            _check_parsed(in_radians(part.strip()), gold)


def _check_parsed(latex: str, gold: str) -> None:
    try:
        equal = holds(Comparison(latex, latex))
    except GoldError:
        raise BadGold(f"gold answer {gold!r} cannot be parsed") from None
    except Exception as error:
        raise BadGold(
            f"gold answer {gold!r} cannot be compared ({type(error).__name__}: {error})"[:300]
        ) from None
    if not equal:
        raise BadGold(f"gold answer {gold!r} has no value that equals itself")
