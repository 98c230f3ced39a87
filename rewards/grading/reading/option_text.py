"""Options named by their text inside a sentence: "The biome shown is tundra"."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ....problems.types import CHOICE_LETTERS
from .normalization import narrow, plain
from .number import parse_number
from .units import split_unit, unit_after, units_agree
from .values import main_clause, stated_number

_WORDS = re.compile(r"[^\W_]+(?:['’][a-z]+)?|[^\w\s]")
_POLAR = {"yes": "yes", "no": "no", "true": "true", "false": "false"}
_POLAR_OPENING = re.compile(
    r"^\W*(yes|no|true|false)\b(?!\s+(?:one|answer|information|option))", re.IGNORECASE
)
_FUNCTION_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "it",
        "they",
        "this",
        "that",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "will",
        "would",
        "may",
        "might",
        "can",
        "could",
        "should",
        "likely",
        "probably",
        "most",
        ",",
        ".",
        ";",
        ":",
    ]
)
_REFUSAL = re.compile(
    r"\b(?:sorry|(?:cannot|can't) (?:be )?(?:answer|determin|assist|provid|help|see|view)\w*"
    r"|unable to|not (?:enough|sufficient|possible|provide|clear|valid)|impossible to"
    r"|doesn't provide|missing)\b",
    re.IGNORECASE,
)


def options_in_text(text: str, options: Sequence[str]) -> list[str]:
    """The letters of the options that a sentence names, without those inside a longer match.

    "Yes"/"No" options only count where the sentence opens with the word. A refusal names nothing,
    unless an option is the refusal ("cannot be determined").
    """
    if not options or not text.strip():
        return []
    polar = [_POLAR.get(option.strip().strip(".").casefold()) for option in options]
    if any(polar):
        match = _POLAR_OPENING.match(text)
        if not match:
            return []
        said = match[1].casefold()
        return [letter for letter, one in zip(CHOICE_LETTERS, polar, strict=False) if one == said]
    letters = _named(_tokens(text), options, _tokens)
    if not letters:
        letters = _named(_content(text), options, _content)
    if len(letters) > 1:
        # "Solution A is stronger than solution B": the main clause says which.
        start, end = main_clause(text)
        letters = _named(_content(text[start:end]), options, _content) or letters
    if letters and _REFUSAL.search(text) and not any(_REFUSAL.search(o) for o in options):
        return []
    if not letters:
        letters = _numeric(text, options)
    return letters


def _named(
    haystack: list[str], options: Sequence[str], tokenize: Callable[[str], list[str]]
) -> list[str]:
    spans = []
    for letter, option in zip(CHOICE_LETTERS, options, strict=False):
        needle = tokenize(option.rstrip(". "))
        if needle and not (len(needle) == 1 and len(needle[0]) == 1 and needle[0].isalpha()):
            found = (at for at in _occurrences(needle, haystack) if not _denied(haystack, at))
            spans += [(at, at + len(needle), letter) for at in found]
    outer = [span for span in spans if not any(_contains(other, span) for other in spans)]
    return list(dict.fromkeys(letter for _, _, letter in outer))


def _denied(haystack: list[str], at: int) -> bool:
    """Whether "not", with or without an article, stands before a place."""
    before = haystack[max(0, at - 2) : at]
    return before[-1:] == ["not"] or (before[:1] == ["not"] and before[1:] in (["a"], ["the"]))


def _contains(outer: tuple[int, int, str], inner: tuple[int, int, str]) -> bool:
    longer = outer[1] - outer[0] > inner[1] - inner[0]
    return longer and outer[0] <= inner[0] and inner[1] <= outer[1]


def _content(text: str) -> list[str]:
    """Tokens without auxiliaries, articles and plural endings: "would increase" = "increases"."""
    tokens = [token for token in _tokens(text) if token not in _FUNCTION_WORDS]
    return [token[:-1] if len(token) > 3 and token.endswith("s") else token for token in tokens]


def _numeric(text: str, options: Sequence[str]) -> list[str]:
    """Options that are numbers, when the sentence states one number."""
    split = [split_unit(option, glued=True) for option in options]
    values = [(parse_number(value), unit) for value, unit in split]
    if not any(value for value, _ in values):
        return []
    stated = stated_number(text, short=False)
    number = parse_number(stated[0]) if stated else None
    if stated is None or number is None:
        return []
    said = unit_after(text, stated[2])
    return [
        letter
        for letter, (value, unit) in zip(CHOICE_LETTERS, values, strict=False)
        if value is not None and value.accepts(number) and units_agree(unit, said)
    ]


def _tokens(text: str) -> list[str]:
    return [token.casefold() for token in _WORDS.findall(plain(narrow(text)))]


def _occurrences(needle: list[str], haystack: list[str]) -> list[int]:
    size = len(needle)
    return [
        start
        for start in range(len(haystack) - size + 1)
        if haystack[start] == needle[0] and haystack[start : start + size] == needle
    ]
