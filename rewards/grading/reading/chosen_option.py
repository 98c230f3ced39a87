"""Which option does a free-form response choose (`eval` policy)?

In this order: the last commitment that names an option, a letter that opens the response, the last
statement about a lettered option, and only then the text of exactly one option in a concluding
sentence. Several letters where one is due are a hedge, and a hedge is no choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ....problems.types import CHOICE_LETTERS
from .choice import is_denied, named_letter
from .commitments import Commitment
from .extraction import NoAnswer
from .free_form import (
    MAX_COMMITTED_CHARACTERS,
    commitments,
    concluding_sentences,
    is_cut_off,
)
from .normalization import narrow
from .option_text import options_in_text

_DRESSING = re.compile(
    r"[*_`$\s]|\\[(\[]|\\(?:text|textbf|mathbf|mathrm|textrm|rm|bf)\b\s*|[{}\"'“”‘’]|\\ |\\[,;:]|~"
)
_NOUN = r"(?:option|choice|answer|statement|figure|image|picture|diagram|graph|选项)"
_NOT_A_WORD = r"(?![A-Za-z'’])"
_OPENING = re.compile(
    rf"""
    (?:the\s+)? (?:{_NOUN}s?\s*(?:letter\s*)?[:\s]?\s*)? (?:选)?
    (?: [(\[]\s*(?P<wrapped>[A-Ja-j])\s*[)\]]
      | (?P<bare>[A-J])(?=\s*(?:[).:,;、|。\]]|-+\s|–\s|$|\())
      | (?P<subject>[A-HJ](?=\s(?:is|was|are|will|would|has|because|since)\s)|I(?=\sis\s))
      | (?P<small>[a-j])(?=\s*(?:[).]\s|$|\n))
      | (?P<spaced>[B-HJ])(?=\s) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ANOTHER = re.compile(
    rf"""
    \s*[).\]:]*\s*
    (?: ,\s*(?:or|and)\b | ,|/|&|\+|;|、|或|和|与|及
      | \b(?:or|and|as\ well\ as)(?:\s+(?:also|even|maybe|perhaps|possibly))?\b )
    \s*{_NOUN}?\s*[(\[]?\s*(?P<letter>[A-J]){_NOT_A_WORD}
    """,
    re.VERBOSE,
)
_RIGHT = r"(?:correct|right|best|true|answer|most\s+likely)"
_STATEMENTS = (
    rf"{_NOUN}s?\s*\(?([A-J])\)?{_NOT_A_WORD}(?=[^.\n]{{0,60}}?(?:\b(?:is|are|{_RIGHT})\b|正确|符合))",
    rf"[(\[]([A-J])[)\]](?=[^.\n]{{0,80}}?\bis\s+(?:the\s+)?{_RIGHT})",
    r"\b(?:correspond|match|lead|point|belong|refer|equal|agree)\w*\s+(?:to|with)\s+(?:the\s+)?"
    rf"{_NOUN}?\s*[(\[]?([A-J]){_NOT_A_WORD}[)\]]?",
    r"\b(?:choose|select|pick|choosing|go\s+with|answer)\s+(?:is\s+)?"
    rf"{_NOUN}?\s*[(\[]?([A-J]){_NOT_A_WORD}[)\]]?",
    rf"\b(?:is|are|be|was|therefore|thus|hence|so|=)[,:]?\s*{_NOUN}?\s*[(\[]([A-J])[)\]]",
    rf"\b(?:letter|choice|pick|guess|selection)\s+(?:is|would\s+be)\s*:?\s*[(\[]?([A-J]){_NOT_A_WORD}",
    rf"{_NOUN}[^.\n]{{0,40}}\bis\s+([B-HJ])(?=\s*(?:\.|\n|$))",
    r"\b(?:[Ss]o|[Tt]hus|[Hh]ence|[Tt]herefore),?\s+([A-J])(?=\s*(?:\.\s*|\n|$))",
    r"选择?\s*[(\[]?([A-J])(?![A-Za-z])",
    r"([A-J])\s*(?:选项)?是?(?:正确|符合)",
)
_STATED = re.compile("|".join(_STATEMENTS))
_NEGATED = re.compile(
    r"\b(?:not|incorrect|wrong|false|isn't|aren't|neither|eliminate)\b|不|错", re.IGNORECASE
)
_PARENTHESISED = re.compile(r"[(\[]\s*([A-J])\s*[)\]]")
_LISTED = re.compile(r"(?:^|\n|\s)[(\[]?([A-J])[)\].:]\s*\S")
_SHOWN_CHARACTERS = 40


def chosen_option(text: str, options: Sequence[str]) -> Commitment:
    """The choice of a response region; `text` of the result is the letter.

    Raises `NoAnswer` if the response chooses nothing or several options.
    """
    text = narrow(text)
    latest = {commitment.text: commitment for commitment in commitments(text)}
    for commitment in reversed(latest.values()):
        if len(commitment.text) > MAX_COMMITTED_CHARACTERS:
            raise NoAnswer("answer too long")
        letter = _committed_letter(commitment.text, options)
        if letter is None and commitment.kind == "box":
            letter = _letter_beside(text, commitment)
        if letter is not None:
            return Commitment(letter, commitment.start, commitment.end, commitment.kind)
        if options and commitment.text and commitment.kind != "phrase":
            raise NoAnswer("the committed answer is none of the options")
    return (
        _opening_letter(text, options) or _stated_letter(text, options) or _concluded(text, options)
    )


def _committed_letter(text: str, options: Sequence[str]) -> str | None:
    """The option that a committed text names. Raises `NoAnswer` if it names several."""
    undressed = _undress(text)
    match = _OPENING.match(undressed)
    if match and (letter := _letter(match, options)):
        _refuse_several(undressed[match.end() :], letter)
        return letter
    if letter := named_letter(text, options):
        return letter
    found = options_in_text(text, options)
    return found[0] if len(found) == 1 else None


def _letter(match: re.Match[str], options: Sequence[str]) -> str | None:
    """The letter of an `_OPENING`, unless there is no such option or it is a word ("a cat")."""
    letter = match["spaced"] or match["bare"] or match["subject"]
    if letter is None:
        letter = (match["wrapped"] or match["small"]).upper()
    return letter if letter in _letters(options) else None


def _letters(options: Sequence[str]) -> str:
    return CHOICE_LETTERS[: len(options) or None]


def _refuse_several(rest: str, letter: str) -> None:
    """Raises `NoAnswer` if the text after a letter denies it, joins another, or lists them all."""
    if is_denied(rest):
        raise NoAnswer("an option is only denied")
    if (other := _ANOTHER.match(rest)) and other["letter"] != letter:
        raise NoAnswer("several options")
    others = {match[1] for match in _LISTED.finditer(rest)} - {letter}
    if len(others) >= 2 and chr(ord(letter) + 1) in others:
        raise NoAnswer("a copied list of options")


def _undress(text: str) -> str:
    """Without fonts, bold and quotes; single spaces stay, since "A cat" is not "Acat"."""
    text = re.sub(r"\\(?:boxed|fbox)\b", " ", text)
    return re.sub(r"\s+", " ", _DRESSING.sub(" ", text)).strip()


def _letter_beside(text: str, box: Commitment) -> str | None:
    r"""The letter just before a box: "(C) \boxed{12}"."""
    match = re.search(r"[(\[]([A-J])[)\]]\s*$", _undress(text[max(0, box.start - 60) : box.start]))
    return match[1] if match else None


def _opening_letter(text: str, options: Sequence[str]) -> Commitment | None:
    stripped = text.lstrip()
    start = len(text) - len(stripped)
    first_line = stripped.partition("\n")[0]
    shown = start + min(len(first_line), _SHOWN_CHARACTERS)
    if len(first_line) < 6 and (letter := named_letter(first_line)) in tuple(_letters(options)):
        return Commitment(letter or "", start, shown, "phrase")
    undressed = _undress(stripped)
    match = _OPENING.match(undressed)
    if match is None or (match["spaced"] and len(undressed) > 2):
        return None
    letter = _letter(match, options)
    # "Option A is wrong, because …": what follows may choose another one.
    if letter is None or is_denied(undressed[match.end() :]):
        return None
    _refuse_several(undressed[match.end() :], letter)
    return Commitment(letter, start, shown, "phrase")


def _stated_letter(text: str, options: Sequence[str]) -> Commitment | None:
    """The last statement such as "option (C) is correct" or "so we choose B"."""
    for match in reversed(list(_STATED.finditer(text))):
        sentence = max(text.rfind(end, 0, match.start()) for end in (". ", "\n", "。"))
        if _NEGATED.search(text, max(0, match.start() - 25, sentence), match.end() + 40):
            continue
        letter = next(group for group in match.groups() if group)
        if letter not in _letters(options):
            return None
        if (other := _ANOTHER.match(text, match.end())) and other["letter"] != letter:
            raise NoAnswer("several options")
        return Commitment(letter, match.start(), match.end(), "phrase")
    return None


def _concluded(text: str, options: Sequence[str]) -> Commitment:
    """The one option that a concluding sentence names by letter in brackets or by its text."""
    if is_cut_off(text):
        raise NoAnswer("cut off")
    for offset, sentence in concluding_sentences(text):
        named = {
            match[1]
            for match in _PARENTHESISED.finditer(sentence)
            if not is_denied(sentence[match.end() :])
        }
        found = sorted(named & set(_letters(options)))
        found = found or options_in_text(sentence, options)
        if len(found) > 1:
            raise NoAnswer("several options")
        if found:
            return Commitment(found[0], offset, offset + len(sentence), "phrase")
    raise NoAnswer("no option is chosen")
