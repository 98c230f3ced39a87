"""One response against one gold answer, by answer type and policy; no clocks, no processes."""

from __future__ import annotations

import re
from collections.abc import Callable

from ...problems.types import CHOICE_LETTERS, AnswerType
from ..types import GradeRequest, Policy
from .expression import compare
from .listed import compare_lists, listed_part, selected_letters, truth_value
from .math_pool import MathJob
from .open_ended import find_and_compare
from .options.choice import grade_choice
from .options.chosen_option import chosen_option
from .reading.commitments import Commitment
from .reading.extraction import NoAnswer, extract_answer
from .reading.free_form import answer_region, concluding_sentences, final_commitment
from .reading.hedges import is_value
from .reading.normalization import narrow, plain, words
from .reading.number import parse_number
from .reading.polarity import truth_in
from .reading.stated_text import says
from .reading.units import split_unit

_POLAR = frozenset(
    ["true", "false", "yes", "no", "正确", "错误", "对", "错", "是", "否", "不对", "不是", "不正确"]
)
_SUM_OF_LETTERS = re.compile(r"[A-Za-z)]\s*\+\s*[A-Za-z(]")


class BadGold(ValueError):
    """The gold answer does not fit its answer type; the row, not the response, is at fault."""


def judge(request: GradeRequest, policy: Policy) -> tuple[Commitment, bool | MathJob]:
    """The committed answer, and whether it is right or the job that would tell.

    Raises `NoAnswer` if the response has no usable answer, `BadGold` if the gold has none.
    """
    check_gold(request)
    if policy is Policy.RL:
        found = extract_answer(request.response)
        return found, _judge_committed(found.text, request)
    region = answer_region(request.response)
    found, verdict = _judge_free(region.text, request)
    start = region.start
    return Commitment(found.text, start + found.start, start + found.end, found.kind), verdict


def check_gold(request: GradeRequest) -> None:
    """Raises `BadGold` if the gold answer does not fit its answer type."""
    kind, gold = request.answer_type, request.answer
    if not gold.strip():
        raise BadGold("empty gold answer")
    if kind is AnswerType.CHOICE:
        letter = gold_letter(gold)
        letters = CHOICE_LETTERS[: len(request.options) or None]
        if letter is None or letter not in letters:
            raise BadGold(
                f"gold answer {gold!r} is not an option letter ({letters[0]}-{letters[-1]})"
            )
    elif kind is AnswerType.MULTI_SELECT:
        letters = CHOICE_LETTERS[: len(request.options) or None]
        if not (selected := selected_letters(gold, whole=True)) or not selected <= set(letters):
            raise BadGold(
                f"gold answer {gold!r} is not a set of option letters ({letters[0]}-{letters[-1]})"
            )
    elif kind is AnswerType.BOOL and truth_value(gold) is None:
        raise BadGold(f"gold answer {gold!r} is neither true nor false")


def gold_letter(gold: str) -> str | None:
    """ "B", "(b)" and "B." are the letter B."""
    match = re.fullmatch(r"\s*[(\[]?\s*([A-Ja-j])\s*[)\]]?\.?\s*", narrow(gold))
    return match[1].upper() if match else None


def resolved_type(request: GradeRequest) -> AnswerType:
    """The answer type with `open` replaced by what the gold answer looks like."""
    if request.answer_type is not AnswerType.OPEN:
        return request.answer_type
    gold = request.answer
    if parse_number(split_unit(gold)[0]) is not None:
        return AnswerType.NUMBER
    if gold.strip().casefold() in _POLAR:
        return AnswerType.BOOL
    if re.search(r"[\\^=_√π]|\d", gold):
        return AnswerType.EXPRESSION
    if _SUM_OF_LETTERS.search(gold) and is_value(plain(gold)):
        return AnswerType.EXPRESSION
    return AnswerType.TEXT


def _judge_committed(answer: str, request: GradeRequest) -> bool | MathJob:
    gold = request.answer
    match resolved_type(request):
        case AnswerType.CHOICE:
            letter = gold_letter(gold)
            return letter is not None and grade_choice(answer, letter, request.options)
        case AnswerType.MULTI_SELECT:
            return selected_letters(answer, whole=True) == selected_letters(gold, whole=True)
        case AnswerType.BOOL:
            return words(answer) in _POLAR and truth_value(answer) == truth_value(gold)
        case AnswerType.LIST:
            return compare_lists(gold, answer, lenient=False)
        case AnswerType.TEXT:
            return words(answer) == words(gold)
        case _:
            return compare(gold, answer)


def _judge_free(text: str, request: GradeRequest) -> tuple[Commitment, bool | MathJob]:
    gold = request.answer
    match resolved_type(request):
        case AnswerType.CHOICE:
            found = chosen_option(text, request.options, request.question)
            return found, found.text == gold_letter(gold)
        case AnswerType.MULTI_SELECT:
            wanted = selected_letters(gold, whole=True)
            return _first(text, lambda said: selected_letters(said, whole=False), wanted)
        case AnswerType.BOOL:
            found, said = truth_in(text, request.question)
            return found, said == truth_value(gold)
        case AnswerType.LIST:
            found = _committed_or_conclusion(text)
            return found, compare_lists(gold, listed_part(found.text), lenient=True)
        case AnswerType.TEXT:
            found = _committed_or_conclusion(text)
            return found, says(found.text, gold)
        case _:
            return find_and_compare(text, gold, request.precision)


def _first(text: str, read: Callable[[str], object], wanted: object) -> tuple[Commitment, bool]:
    found = _committed_or_conclusion(text)
    said = read(found.text)
    if said is None:
        raise NoAnswer("no committed answer")
    return found, said == wanted


def _committed_or_conclusion(text: str) -> Commitment:
    committed = final_commitment(narrow(text), several=True)
    if committed is not None:
        return committed
    for offset, sentence in concluding_sentences(text):
        return Commitment(sentence, offset, offset + len(sentence), "phrase")
    raise NoAnswer("no committed answer")
