"""Which option does a free-form response choose (`eval` policy)?

Copied lists of options are blanked first. Then, in this order: the last commitment that names an
option, a letter that is the last sentence, a letter that opens the response, the last statement
about a lettered option, and only then the text of exactly one option in a concluding sentence.
Several letters where one is due are a hedge, and a hedge is no choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ....problems.types import CHOICE_LETTERS
from ..reading.choice import is_denied, named_letter
from ..reading.commitments import Commitment
from ..reading.denials import is_taken_back
from ..reading.extraction import NoAnswer
from ..reading.free_form import (
    MAX_COMMITTED_CHARACTERS,
    commitments,
    concluding_sentences,
    is_cut_off,
)
from ..reading.normalization import narrow, words
from ..reading.polarity import polar_letters, proposition
from .copied_options import without_copied_options
from .option_letters import letter_patterns
from .option_text import options_in_text

_DRESSING = re.compile(
    r"[*_`$\s]|\\[(\[]|\\(?:text|textbf|mathbf|mathrm|textrm|rm|bf)\b\s*|[{}\"'“”‘’]|\\ |\\[,;:]|~"
)
_SAID_RIGHT = re.compile(
    r"[\s).\]:*]*(?:is|was|seems)\s+(?:clearly\s+)?(?:the\s+)?(?:correct|right|best|true|answer)\b|\s*正确"
)
_NEGATED = re.compile(
    r"\b(?:not|incorrect|wrong|false|isn't|aren't|neither|nor|eliminate|except|cannot|can't)\b|不|错",
    re.IGNORECASE,
)
_VERDICT = re.compile(r"\b(?:correct|right|true|best|fits|works)\b|正确|符合")
_NEW_CLAUSE = re.compile(
    r"[;；。\n]|\.\s|[,，]\s*(?:so|but|thus|hence|therefore|and\s+so|所以|因此|故|而|但|选)"
    r"|\b(?:so|thus|hence|therefore|but)\b|所以|因此|故"
)
_OR = re.compile(r"[\s,).\]]*(?:(?:or|vs\.?)\b|或)")
_SEEN_BEFORE, _SEEN_AFTER = 25, 60
_SHOWN_CHARACTERS = 40


def chosen_option(text: str, options: Sequence[str], question: str = "") -> Commitment:
    """The choice of a response region; `text` of the result is the letter.

    Raises `NoAnswer` if the response chooses nothing or several options.
    """
    text = narrow(text)
    shown = without_copied_options(text, options)
    if not shown.strip():
        raise NoAnswer("a copied list of options")
    text = shown
    latest = {commitment.text: commitment for commitment in commitments(text)}
    for commitment in reversed(latest.values()):
        if len(commitment.text) > MAX_COMMITTED_CHARACTERS:
            raise NoAnswer("answer too long")
        if commitment.kind != "phrase" and is_taken_back(text, commitment.start, commitment.end):
            continue
        letter = _committed_letter(commitment.text, options)
        if letter is None and commitment.kind == "box":
            letter = _letter_beside(text, commitment, options)
        if letter is not None:
            return Commitment(letter, commitment.start, commitment.end, commitment.kind)
        if options and commitment.text and commitment.kind != "phrase":
            raise NoAnswer("the committed answer is none of the options")
    return (
        _closing_letter(text, options)
        or _opening_letter(text, options)
        or _stated_letter(text, options)
        or _concluded(text, options, question)
    )


def _committed_letter(text: str, options: Sequence[str]) -> str | None:
    """The option that a committed text names. Raises `NoAnswer` if it names several."""
    undressed = _undress(text)
    match = letter_patterns(_letters(options)).opening.match(undressed)
    if match and (letter := _letter(match, options)):
        _refuse_several(undressed[match.end() :], letter, options)
        return letter
    if letter := named_letter(text, options):
        return letter
    found = options_in_text(text, options)
    return found[0] if len(found) == 1 else None


def _letter(match: re.Match[str], options: Sequence[str]) -> str | None:
    """The letter of an opening, unless there is no such option or it is a word ("a cat")."""
    letter = match["spaced"] or match["bare"] or match["subject"]
    if letter is None:
        letter = (match["wrapped"] or match["small"]).upper()
    return letter if letter in _letters(options) else None


def _letters(options: Sequence[str]) -> str:
    return CHOICE_LETTERS[: len(options) or None]


def _refuse_several(rest: str, letter: str, options: Sequence[str]) -> None:
    """Raises `NoAnswer` if the text after a letter denies it or joins another one to it."""
    if is_denied(rest):
        raise NoAnswer("an option is only denied")
    for said in (rest, _without_own_text(rest, letter, options)):
        _refuse_another(said, 0, letter, options)
    if (beside := _OR.match(rest)) and options_in_text(rest[beside.end() :], options):
        raise NoAnswer("several options")


def _refuse_another(text: str, position: int, letter: str, options: Sequence[str]) -> None:
    """Raises `NoAnswer` if another letter is joined there: " or C", but not ", A is wrong"."""
    joined = set()
    another = letter_patterns(_letters(options)).another
    while match := another.match(text, position):
        joined.add(match["letter"])
        position = match.end()
    if joined - {letter} and not is_denied(text[position:]):
        raise NoAnswer("several options")


def _without_own_text(rest: str, letter: str, options: Sequence[str]) -> str:
    """What follows the option's own text: " or C. cow" of ". dog or C. cow"."""
    if not options:
        return rest
    own = _undress(options[CHOICE_LETTERS.index(letter)])
    stripped = rest.lstrip(" ).:]-,")
    return stripped[len(own) :] if own and stripped.startswith(own) else rest


def _undress(text: str) -> str:
    """Without fonts, bold and quotes; single spaces stay, since "A cat" is not "Acat"."""
    text = re.sub(r"\\(?:boxed|fbox)\b", " ", text)
    return re.sub(r"\s+", " ", _DRESSING.sub(" ", text)).strip()


def _letter_beside(text: str, box: Commitment, options: Sequence[str]) -> str | None:
    r"""The letter just before a box: "(C) \boxed{12}"."""
    before = _undress(text[max(0, box.start - 60) : box.start])
    found = list(letter_patterns(_letters(options)).wrapped.finditer(before))
    return found[-1][1] if found and found[-1].end() == len(before) else None


def _closing_letter(text: str, options: Sequence[str]) -> Commitment | None:
    """A letter that is the whole last sentence: "… so it grows.\n\nB"."""
    match = letter_patterns(_letters(options)).closing.search(text)
    if match is None or is_taken_back(text, match.start(1), match.end(1)):
        return None
    return Commitment(match[1], match.start(1), match.end(1), "phrase")


def _opening_letter(text: str, options: Sequence[str]) -> Commitment | None:
    stripped = text.lstrip()
    start = len(text) - len(stripped)
    first_line = stripped.partition("\n")[0]
    shown = start + min(len(first_line), _SHOWN_CHARACTERS)
    if len(first_line) < 6 and (letter := named_letter(first_line)) in tuple(_letters(options)):
        return Commitment(letter or "", start, shown, "phrase")
    undressed = _undress(stripped)
    match = letter_patterns(_letters(options)).opening.match(undressed)
    if match is None:
        return None
    letter = _letter(match, options)
    if letter and _OR.match(undressed, match.end()):
        _refuse_several(undressed[match.end() :], letter, options)
    if match["spaced"] and len(undressed) > 2:
        return None
    # "Option A is wrong, because …": what follows may choose another one.
    if letter is None or is_denied(undressed[match.end() :]):
        return None
    if _goes_through_options(stripped, undressed[match.end() :], letter, options):
        return None
    _refuse_several(undressed[match.end() :], letter, options)
    # "A is a cat. B barks. So it is C.": a subject is no choice where another one is stated.
    stated = _stated_letter(text, options) if match["subject"] else None
    if stated is not None and stated.text != letter:
        return stated
    return Commitment(letter, start, shown, "phrase")


def _goes_through_options(text: str, rest: str, letter: str, options: Sequence[str]) -> bool:
    """Whether an opening A is the first of a list in which every option is talked about."""
    if letter != "A" or _SAID_RIGHT.match(rest):
        return False
    listed = letter_patterns(_letters(options)).listed
    items = [match for match in listed.finditer(text) if match[1] == "B" and match.start() > 0]
    if not items:
        return False
    said = _undress(re.split(r"\n|[.]\s", rest.strip(" ).:]-"), maxsplit=1)[0])
    own = words(options[0]) if options else ""
    if said and words(said) != own:
        return True
    # Each option on a line of its own, with its text: a list, even if there is talk in between.
    following = text[items[0].end() - 1 :]
    return len(options) > 1 and bool(said) and words(following).startswith(words(options[1]))


def _stated_letter(text: str, options: Sequence[str]) -> Commitment | None:
    """The last statement such as "option (C) is correct" or "so we choose B"."""
    patterns = letter_patterns(_letters(options))
    for match in reversed(list(patterns.stated.finditer(text))):
        if _in_negated_clause(text, match):
            continue
        letter = next(group for group in match.groups() if group)
        _refuse_another(text, match.end(), letter, options)
        return Commitment(letter, match.start(), match.end(), "phrase")
    return None


def _in_negated_clause(text: str, match: re.Match[str]) -> bool:
    """Whether the clause of a statement denies it: "neither A nor B", "option B is not right"."""
    start = max(0, match.start() - _SEEN_BEFORE)
    letter = max(match.end(group) for group in range(1, len(match.groups()) + 1) if match[group])
    for clause in _NEW_CLAUSE.finditer(text, start, letter):
        start = clause.end()
    after = text[match.end() : match.end() + _SEEN_AFTER]
    if end := _NEW_CLAUSE.search(after):
        after = after[: end.start()]
    if verdict := _VERDICT.search(after):
        after = after[: verdict.end()]
    return bool(_NEGATED.search(text, start, match.end()) or _NEGATED.search(after))


def _concluded(text: str, options: Sequence[str], question: str) -> Commitment:
    """The one option that a concluding sentence names by letter in brackets or by its text."""
    if is_cut_off(text):
        raise NoAnswer("cut off")
    letters = _letters(options)
    for offset, sentence in concluding_sentences(text):
        named = {
            match[1]
            for match in letter_patterns(letters).wrapped.finditer(sentence)
            if not is_denied(sentence[match.end() :])
            and not is_taken_back(sentence, match.start(), match.end())
        }
        found = sorted(named)
        found = found or options_in_text(sentence, options)
        if len(found) > 1:
            raise NoAnswer("several options")
        if found:
            return Commitment(found[0], offset, offset + len(sentence), "phrase")
    poles = polar_letters(options)
    if any(pole is not None for pole in poles) and (said := proposition(text, question)):
        found, pole = said
        return Commitment(letters[poles.index(pole)], found.start, found.end, "phrase")
    raise NoAnswer("no option is chosen")
