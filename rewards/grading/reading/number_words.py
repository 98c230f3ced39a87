"""Numbers in words, English and Chinese: "twenty-one", "two thirds", "two and a half", 十二."""

from __future__ import annotations

import re
from fractions import Fraction

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

_PARTS = {
    "half": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "eleventh": 11,
    "twelfth": 12,
    "fifteenth": 15,
    "sixteenth": 16,
    "twentieth": 20,
    "hundredth": 100,
    "thousandth": 1000,
}

_SIMPLE = "|".join([*_UNITS, *_TENS])
_ANY = "|".join([*_UNITS, *_TENS, *_SCALES])
_PART = rf"(?:{'|'.join(_PARTS)})s?|halves"
_WHOLE = rf"(?:{_SIMPLE})(?:(?:[\s-]|\sand\s)(?:{_ANY}))*"
_CHINESE = "零一二三四五六七八九十百千万两〇"
# "One" alone starts many sentences that state nothing, so "no one", "one of" are left out; so is a
# number that only counts a fraction's parts.
NUMBER_WORD = re.compile(
    rf"(?<![\w-])(?<!no )(?:"
    rf"(?:{_WHOLE}\s+and\s+)?(?:an?|{_WHOLE})[\s-](?:{_PART})"
    rf"|{_WHOLE}(?!\s+of\b|[\s-](?:{_PART})(?![\w-])))(?![\w-])"
    rf"|(?<![第每{_CHINESE}])(?:[{_CHINESE}]+又)?[{_CHINESE}]+分之[{_CHINESE}]+"
    rf"|(?<![第每分之又{_CHINESE}])[{_CHINESE}]+(?=[个只条种本人元次天年支张块颗枚名]|$)",
    re.IGNORECASE,
)
_FRACTION = re.compile(
    rf"(?:(?P<whole>{_WHOLE}) and )?(?P<top>an?|{_WHOLE})[\s-](?P<part>{_PART})|(?P<half>half)",
    re.IGNORECASE,
)
_CHINESE_FRACTION = re.compile(
    rf"(?:(?P<whole>[{_CHINESE}]+)又)?(?P<bottom>[{_CHINESE}]+)分之(?P<top>[{_CHINESE}]+)"
)


def value_of_words(text: str) -> Fraction | None:
    """The value of a number or a fraction written out, or None: "two and a half" -> 5/2."""
    text = re.sub(r"\s+", " ", text.strip())
    if text == "一半":
        return Fraction(1, 2)
    if match := _CHINESE_FRACTION.fullmatch(text):
        whole = _chinese(match["whole"]) if match["whole"] else 0
        top, bottom = _chinese(match["top"]), _chinese(match["bottom"])
        return whole + Fraction(top, bottom) if bottom else None
    if (match := _FRACTION.fullmatch(text)) is None:
        number = number_of_words(text)
        return None if number is None else Fraction(number)
    if match["half"]:
        return Fraction(1, 2)
    part = match["part"].casefold()
    bottom = _PARTS.get(part) or _PARTS["half" if part == "halves" else part.removesuffix("s")]
    top = 1 if match["top"].casefold() in ("a", "an") else number_of_words(match["top"])
    whole = number_of_words(match["whole"]) if match["whole"] else 0
    if top is None or whole is None or (top > 1 and not part.endswith("s")):
        return None  # "twenty third" counts places
    return whole + Fraction(top, bottom)


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
