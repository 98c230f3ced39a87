"""Which option does a free-form response choose (`eval` policy)?

In this order: the last commitment that names an option, a letter that opens the response, the last
statement about a lettered option, and only then the text of exactly one option in a concluding
sentence. Several letters where one is due are a hedge, and a hedge is no choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..problems.types import CHOICE_LETTERS
from .choice import named_letter
from .commitments import Commitment
from .extraction import NoAnswer
from .free_form import commitments, concluding_sentences, is_cut_off
from .normalization import narrow
from .option_text import options_in_text

_DRESSING = re.compile(
    r"[*_`$\s]|\\[(\[]|\\(?:text|textbf|mathbf|mathrm|textrm|rm|bf)\b\s*|[{}\"'“”‘’]|\\ |\\[,;:]|~"
)
_OPENING = re.compile(
    r"""
    (?:the\s+)?(?:(?:option|choice|answer|statement|figure|image|picture|diagram)s?\s*(?:letter\s*)?[:\s]\s*)?(?:选项|选)?
    (?: [(\[]\s*(?P<wrapped>[A-Ja-j])\s*[)\]]
      | (?P<bare>[A-J])(?=\s*(?:[).:,;、|。\]]|-+\s|–\s|$|\()|\s(?:is|was|are|will|would|has|because|since)\s)
      | (?P<small>[a-j])(?=\s*(?:[).]\s|$|\n))
      | (?P<spaced>[B-HJ])(?=\s) )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ANOTHER = re.compile(
    r"^\s*[).\]:]*\s*(?:,|/|&|\+|;|、|或|和|与|及|\bor\b|\band\b|\bas well as\b|,\s*(?:or|and)\b)\s*"
    r"(?:option|choice|answer|选项)?\s*[(\[]?\s*([A-J])(?![A-Za-z'’])"
)
_STATED = re.compile(
    r"""
    (?:option|choice|answer|statement|figure|image|picture|diagram|graph|part|选项)s?\s*\(?(?P<o>[A-J])\)?(?![A-Za-z'’])
        (?=[^.\n]{0,60}?(?:\b(?:is|are|correct|right|best|true)\b|正确|符合))
    | [(\[](?P<p>[A-J])[)\]](?=[^.\n]{0,80}?\bis\s+(?:the\s+)?(?:correct|right|best|answer|true|most\s+likely))
    | \b(?:correspond|match|lead|point|belong|refer|equal|agree)\w*\s+(?:to|with)\s+(?:the\s+)?(?:option|choice|answer)?\s*[(\[]?(?P<c>[A-J])(?![A-Za-z'’])[)\]]?
    | \b(?:choose|select|pick|choosing|go\s+with|answer)\s+(?:is\s+)?(?:option|choice|answer)?\s*[(\[]?(?P<d>[A-J])(?![A-Za-z'’])[)\]]?
    | \b(?:is|are|be|was|=|therefore|thus|hence|so)[,:]?\s*(?:option\s+|choice\s+)?[(\[](?P<e>[A-J])[)\]]
    | (?P<f>[A-J])\s*(?:选项)?(?:是)?(?:正确|符合)
    """,
    re.VERBOSE,
)
_NEGATED = re.compile(
    r"\b(?:not|incorrect|wrong|false|isn't|aren't|neither|eliminate)\b|不|错", re.I
)
_PARENTHESISED = re.compile(r"[(\[]\s*([A-J])\s*[)\]]")
_LISTED = re.compile(r"(?:^|\n|\s)[(\[]?([A-J])[)\].:]\s*\S")


def chosen_option(text: str, options: Sequence[str]) -> Commitment:
    """The choice of a response region; `text` of the result is the letter.

    Raises `NoAnswer` if the response chooses nothing or several options.
    """
    text = narrow(text)
    for commitment in reversed(commitments(text)):
        letter = letter_of(commitment.text, options)
        if letter is None and commitment.kind == "box":
            letter = _letter_beside(text, commitment)
        if letter is not None:
            return Commitment(letter, commitment.start, commitment.end, commitment.kind)
        if commitment.kind in ("tag", "box") and _says_something_else(commitment.text, options):
            raise NoAnswer("the committed answer is none of the options")
    return _uncommitted(text, options)


def letter_of(text: str, options: Sequence[str]) -> str | None:
    """The option that a committed text names. Raises `NoAnswer` if it names several."""
    plain = _undress(text)
    match = _OPENING.match(plain)
    if match and (letter := _letter(match, plain)):
        rest = plain[match.end() :]
        if letter in CHOICE_LETTERS[: len(options) or None]:
            if other := _ANOTHER.match(rest):
                if other[1] != letter:
                    raise NoAnswer("several options")
            if _lists_options(rest, letter):
                raise NoAnswer("a copied list of options")
            return letter
    if letter := named_letter(text, options):
        return letter
    found = options_in_text(text, options)
    return found[0] if len(found) == 1 else None


def _letter(match: re.Match[str], text: str) -> str | None:
    if match["spaced"] or match["bare"]:
        letter = match["spaced"] or match["bare"]
        return letter if letter.isupper() else None
    return (match["wrapped"] or match["small"]).upper()


def _undress(text: str) -> str:
    """Without fonts, bold and quotes; single spaces stay, since "A cat" is not "Acat"."""
    text = re.sub(r"\\(?:boxed|fbox)\b", " ", text)
    text = _DRESSING.sub(" ", text)
    return re.sub(r"\s+", " ", text).strip()


def _letter_beside(text: str, box: Commitment) -> str | None:
    r"""The letter just before a box: "(C) \boxed{12}"."""
    before = _undress(text[max(0, box.start - 60) : box.start])
    match = re.search(r"[(\[]([A-J])[)\]]\s*$", before)
    return match[1] if match else None


def _says_something_else(text: str, options: Sequence[str]) -> bool:
    return bool(text) and bool(options) and len(text) < 200


def _lists_options(rest: str, letter: str) -> bool:
    """Whether the text after a letter goes on with further lettered options."""
    others = {match[1] for match in _LISTED.finditer(rest)} - {letter}
    following = chr(ord(letter) + 1)
    return len(others) >= 2 and following in others


def _uncommitted(text: str, options: Sequence[str]) -> Commitment:
    stripped = text.lstrip()
    lead = len(text) - len(stripped)
    first_line = stripped.partition("\n")[0]
    if len(first_line) < 6 and (letter := named_letter(first_line)):
        return Commitment(letter, lead, lead + len(first_line), "phrase")
    plain = _undress(stripped)
    match = _OPENING.match(plain)
    if match and not (match["spaced"] and len(plain) > 2) and (letter := _letter(match, plain)):
        if letter in CHOICE_LETTERS[: len(options) or None]:
            rest = plain[match.end() :]
            if _ANOTHER.match(rest):
                raise NoAnswer("several options")
            if not _lists_options(rest, letter):
                return Commitment(letter, lead, lead + min(len(stripped), 40), "phrase")
            raise NoAnswer("a copied list of options")
    stated = [match for match in _STATED.finditer(text)]
    stated = [m for m in stated if not _NEGATED.search(text[max(0, m.start() - 25) : m.end() + 40])]
    if stated:
        last = stated[-1]
        letter = next(group for group in last.groups() if group)
        if letter in CHOICE_LETTERS[: len(options) or None]:
            if (other := _ANOTHER.match(text[last.end() :])) and other[1] != letter:
                raise NoAnswer("several options")
            return Commitment(letter, last.start(), last.end(), "phrase")
    if is_cut_off(text):
        raise NoAnswer("cut off")
    for offset, sentence in concluding_sentences(text):
        letters = set(_PARENTHESISED.findall(sentence)) & set(
            CHOICE_LETTERS[: len(options) or None]
        )
        if len(letters) == 1:
            return Commitment(letters.pop(), offset, offset + len(sentence), "phrase")
        if len(letters) > 1:
            raise NoAnswer("several options")
        found = options_in_text(sentence, options)
        if len(found) == 1:
            return Commitment(found[0], offset, offset + len(sentence), "phrase")
        if len(found) > 1:
            raise NoAnswer("several options")
    raise NoAnswer("no option is chosen")
