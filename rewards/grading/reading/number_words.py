"""Numbers in words, English and Chinese: "twenty-one", "three hundred and five", 十二."""

from __future__ import annotations

import re

_UNITS = dict(
    zip(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ],
        range(20),
        strict=True,
    )
)
_TENS = dict(
    zip(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"],
        range(20, 100, 10),
        strict=True,
    )
)
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_CHINESE_DIGITS = {character: value for value, character in enumerate("零一二三四五六七八九")} | {
    "两": 2,
    "〇": 0,
}
_CHINESE_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4}

_SIMPLE = "|".join([*_UNITS, *_TENS])
_ANY = "|".join([*_UNITS, *_TENS, *_SCALES])
# "One" alone starts many sentences that state nothing, so "no one", "one of" are left out.
NUMBER_WORD = re.compile(
    rf"(?<![\w-])(?<!no )(?:{_SIMPLE})(?:(?:[\s-]|\sand\s)(?:{_ANY}))*(?![\w-])(?!\s+of\b)"
    rf"|(?<![第每零一二三四五六七八九十百千万两〇])[零一二三四五六七八九十百千万两〇]+(?=[个只条种本人元次天年支张块颗枚名]|$)",
    re.IGNORECASE,
)


def number_of_words(text: str) -> int | None:
    """The value of a number written out, or None: "three hundred and five" -> 305."""
    text = text.strip()
    if not text:
        return None
    if set(text) <= _CHINESE_DIGITS.keys() | _CHINESE_SCALES.keys():
        return _chinese(text)
    words = re.split(r"[\s-]+", text.casefold())
    total = current = 0
    seen = False
    for word in words:
        if word == "and" and seen:
            continue
        if word in _UNITS or word in _TENS:
            current += _UNITS.get(word, _TENS.get(word, 0))
        elif word == "hundred" and seen:
            current = max(1, current) * 100
        elif word in _SCALES and seen:
            total += max(1, current) * _SCALES[word]
            current = 0
        else:
            return None
        seen = True
    return total + current if seen else None


def _chinese(text: str) -> int:
    total = digit = 0
    positional = not set(text) & _CHINESE_SCALES.keys()
    if positional:
        return int("".join(str(_CHINESE_DIGITS[character]) for character in text))
    for character in text:
        if character in _CHINESE_SCALES:
            total += (digit or 1) * _CHINESE_SCALES[character]
            digit = 0
        else:
            digit = _CHINESE_DIGITS[character]
    return total + digit
