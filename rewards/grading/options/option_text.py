"""Options named by their text inside a sentence: "The biome shown is tundra"."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ....problems.types import CHOICE_LETTERS
from ..reading.conclusion import last_clause
from ..reading.denials import is_bound, is_taken_back
from ..reading.normalization import narrow, plain
from ..reading.number import parse_number
from ..reading.polarity import polar_letters, polarity
from ..reading.units import split_unit, unit_after, units_agree
from ..reading.values import main_clause, stated_number

# Chinese is written without spaces: every character is a token.
_WORDS = re.compile(r"[一-鿿]|[^\W_一-鿿]+(?:['’][a-z]+)?|[^\w\s]")
_DENYING = frozenset(
    ["not", "never", "nor", "neither", "except", "excluding", "unlike"]
    + [f"{verb}n{mark}t" for verb in ("is", "are", "was", "were") for mark in "'’"]
)
_DENYING_PAIRS = frozenset(
    [
        *(("rather", "than"), ("instead", "of"), ("other", "than"), ("anything", "but")),
        *(("不", "是"), ("并", "非"), ("而", "非"), ("不", "选"), ("不", "为")),
    ]
)
_BOUNDING_PAIRS = frozenset(
    [("at", "least"), ("at", "most"), ("up", "to"), ("more", "than"), ("less", "than")]
)
_JUDGED_WRONG = frozenset(["wrong", "incorrect", "false", "impossible", "excluded"])
_VERBS = frozenset(["is", "are", "was", "were", "be", "cannot", "can"])
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

    "Yes"/"No" options count where the sentence says yes or no. A refusal names nothing, unless an
    option is the refusal ("cannot be determined").
    """
    if not options or not text.strip():
        return []
    poles = polar_letters(options)
    if any(pole is not None for pole in poles):
        if (said := polarity(text)) is not None:
            return [CHOICE_LETTERS[poles.index(said)]]
        options = ["" if pole is not None else o for o, pole in zip(options, poles, strict=True)]
        if not any(options):
            return []
    letters = _named(_tokens(text), options, _tokens)
    if not letters:
        letters = _named(_content(text), options, _content)
    if len(letters) > 1:
        # "Solution A is stronger than solution B": the main clause says which.
        start, end = main_clause(text)
        letters = _named(_content(text[start:end]), options, _content) or letters
    if len(letters) > 1:
        letters = _named(_content(last_clause(text)), options, _content) or letters
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
        is_variable = len(needle) == 1 and len(needle[0]) == 1 and needle[0].isascii()
        if needle and not (is_variable and needle[0].isalpha()):
            found = [(at, at + len(needle)) for at in _occurrences(needle, haystack)]
            spans += [(*span, letter) for span in found if not _denied(haystack, *span)]
    outer = [span for span in spans if not any(_contains(other, span) for other in spans)]
    return list(dict.fromkeys(letter for _, _, letter in outer))


def _denied(haystack: list[str], start: int, end: int) -> bool:
    """Whether the words beside a place deny it: "not the", "rather than", "is wrong"."""
    before = haystack[max(0, start - 3) : start]
    if before[-1:] in (["a"], ["an"], ["the"]):
        before.pop()
    if haystack[start].isdigit() and tuple(before[-2:]) in _BOUNDING_PAIRS:
        return True
    if _DENYING.intersection(before[-1:]) or tuple(before[-2:]) in _DENYING_PAIRS:
        return True
    after = [token for token in haystack[end : end + 3] if token not in _VERBS]
    if after[:1] == ["not"]:
        return after[1:2] in (["correct"], ["right"])
    return bool(_JUDGED_WRONG.intersection(after[:1])) or after[:1] in (["错"], ["不"])


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
    if is_taken_back(text, *stated[1:]) or is_bound(text, *stated[1:]):
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
