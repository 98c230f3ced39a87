"""Answers in words: the same words, where "3rd" and "third" are the same word."""

from __future__ import annotations

import re

from .clock import clock_times_agree
from .reading.normalization import words
from .reading.number_words import number_of_words

_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12,
    **{f"{ten}ieth": 10 * place for place, ten in enumerate(
        ("twent", "thirt", "fort", "fift", "sixt", "sevent", "eight", "ninet"), start=2
    )},
}  # fmt: skip
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_WORD = re.compile(rf"\b(?:(?P<tens>{_TENS})[\s-])?(?P<word>[a-z]+(?:st|nd|rd|th))\b")
_DIGITS = re.compile(r"(?<![\d.])(\d+) ?\^?\{? ?(?:st|nd|rd|th)(?![a-z])(?: ?\})?")
_CHINESE = re.compile(r"第([零一二三四五六七八九十百]+|\d+)")


def same_words(one: str, other: str) -> bool:
    """Whether two answers say the same in words: case, quotes, ordinals and times of day aside."""
    first, second = words(one), words(other)
    if first == second:
        return True
    if clock_times_agree(one, other, lenient=False):
        return True
    first, second = with_ordinals(first), with_ordinals(second)
    return "№" in first and first.removeprefix("the ") == second.removeprefix("the ")


def with_ordinals(text: str) -> str:
    """Ordinals as №3, in text in lower case: "the third floor" is "the №3 floor"."""
    text = _DIGITS.sub(r"№\1", text)
    text = _CHINESE.sub(lambda match: f"№{_number(match[1])}", text)
    return _WORD.sub(_ordinal, text)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else number_of_words(text)


def _ordinal(match: re.Match[str]) -> str:
    word = match["word"]
    place = _ORDINALS.get(word) or (number_of_words(word.removesuffix("th")) or 0)
    if not place:
        return match[0]
    tens = number_of_words(match["tens"]) or 0 if match["tens"] else 0
    return match[0] if tens and place > 9 else f"№{tens + place}"
