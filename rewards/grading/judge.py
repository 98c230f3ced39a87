"""One response against its gold answer, by answer type and strictness; no clocks, no processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...problems.types import AnswerType
from ..types import GradeRequest, Strictness
from .expression import compare
from .gold import POLAR, BadGold, check_gold, check_type, final_value, gold_letter, resolved_type
from .listed import compare_lists, listed_part, selected_letters, truth_value
from .math_pool import Comparisons, MathJob
from .open_ended import find_and_compare
from .options.chosen_option import chosen_option
from .reading.choice import grade_choice
from .reading.commitments import Commitment
from .reading.extraction import NoAnswer, extract_answer
from .reading.free_form import answer_region, concluding_sentences, final_commitment
from .reading.normalization import narrow, words
from .reading.polarity import truth_in
from .reading.stated_text import says
from .texts import same_words, with_ordinals

__all__ = ["BadGold", "check_gold", "check_type", "gold_letter", "judge", "resolved_type"]


def judge(request: GradeRequest, strictness: Strictness) -> tuple[Commitment, bool | MathJob]:
    """The committed answer, and whether it is right or the job that would tell.

    Where several gold answers are accepted, meeting one is enough. Raises `NoAnswer` if the
    response has no usable answer, `BadGold` if a gold answer does not fit its type.
    """
    check_type(request)
    if strictness is Strictness.RL:
        found = extract_answer(request.response)
        return _any_gold(
            request, lambda one, gold: (found, _judge_committed(found.text, one, gold))
        )
    region = answer_region(request.response)
    found, verdict = _any_gold(request, lambda one, gold: _judge_free(region.text, one, gold))
    start = region.start
    return Commitment(found.text, start + found.start, start + found.end, found.kind), verdict


_Judged = tuple[Commitment, bool | MathJob]


def _any_gold(request: GradeRequest, judge_one: Callable[[GradeRequest, str], _Judged]) -> _Judged:
    """The verdict for the first accepted gold answer that is met, else for all of them."""
    undecided: list[_Judged] = []
    wrong: _Judged | None = None
    failure: NoAnswer | None = None
    for answer in request.answers:
        single = replace(request, answer=answer)
        try:
            judged = judge_one(single, answer)
        except NoAnswer as error:
            failure = failure or error
            continue
        if judged[1] is True:
            return judged
        if judged[1] is False:
            wrong = wrong or judged
        else:
            undecided.append(judged)
    if undecided:
        jobs = tuple(job for _, job in undecided if not isinstance(job, bool))
        return undecided[0][0], jobs[0] if len(jobs) == 1 else Comparisons("any", jobs)
    if wrong is not None:
        return wrong
    raise failure or NoAnswer("no committed answer")


def _judge_committed(answer: str, request: GradeRequest, gold: str) -> bool | MathJob:
    match resolved_type(request):
        case AnswerType.CHOICE:
            letter = gold_letter(gold)
            return letter is not None and grade_choice(answer, letter, request.options)
        case AnswerType.MULTI_SELECT:
            return selected_letters(answer, whole=True) == selected_letters(gold, whole=True)
        case AnswerType.BOOL:
            return words(answer) in POLAR and truth_value(answer) == truth_value(gold)
        case AnswerType.LIST:
            return compare_lists(gold, answer, lenient=False)
        case AnswerType.TEXT:
            return same_words(gold, answer)
        case _:
            return compare(final_value(gold), answer)


def _judge_free(text: str, request: GradeRequest, gold: str) -> _Judged:
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
            return found, _says(found.text, gold)
        case _:
            return find_and_compare(text, final_value(gold), request.precision)


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


def _says(text: str, gold: str) -> bool:
    """Whether the text commits to the gold words, "3rd" and "third" being the same word."""
    if same_words(gold, text) or says(text, gold):
        return True
    return says(with_ordinals(words(text)), with_ordinals(words(gold)))
