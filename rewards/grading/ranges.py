"""Ranges of numbers: 4-7, "4 to 7", 4~7. A range is not the difference of its ends."""

from __future__ import annotations

import re
from dataclasses import replace

from .reading.normalization import narrow, plain
from .reading.number import PlainNumber, parse_number
from .reading.units import split_unit, units_agree

_AMOUNT = r"[$€£¥₹\\]*\d[\d.,]*(?: ?\\?%| ?[a-zA-Z]+)?"
_WORDS = re.compile(
    rf"(?P<lead>from |between )?(?P<low>{_AMOUNT}) ?(?P<joint>to|and|至|到) ?(?P<high>{_AMOUNT}.*)"
)
_DASH = re.compile(rf"(?P<low>{_AMOUNT})-(?P<high>{_AMOUNT}.*)")
_TILDE = re.compile(r"(?<=\d)\s*[~〜]\s*(?=\d)")
MAX_CHARACTERS = 60


def parse_range(text: str) -> tuple[PlainNumber, PlainNumber, str | None] | None:
    """The two ends, the first below the second, and the unit of a range; None if it is none."""
    if len(text) > MAX_CHARACTERS or not re.search(r"\d", text):
        return None
    tilde = _TILDE.search(narrow(text))
    text = plain(_TILDE.sub("-", narrow(text)))
    match = _DASH.fullmatch(text)
    if match is None and not tilde:
        match = _WORDS.fullmatch(text)
        if match and match["joint"] == "and" and match["lead"] != "between ":
            return None
    if match is None:
        return None
    low, low_unit = split_unit(match["low"])
    high, unit = split_unit(match["high"])
    first, second = parse_number(low), parse_number(high)
    if first is None or second is None or not first.value < second.value:
        return None
    if low_unit and low_unit != unit:
        return None  # "2 m-7" is a difference
    if second.percent:
        first = replace(first, percent=True)  # 10-20 % are two percentages
    return first, second, unit


def ranges_agree(gold: str, prediction: str) -> bool | None:
    """Whether two ranges have the same ends; None if neither is a range.

    A number is no range, and a range no number: 4-7 is not -3.
    """
    wanted, said = parse_range(gold), parse_range(prediction)
    if wanted is None:
        number = said and parse_number(split_unit(gold, glued=True)[0])
        return False if number else None
    if said is None or not units_agree(wanted[2], said[2]):
        return False
    return wanted[0].accepts(said[0]) and wanted[1].accepts(said[1])
