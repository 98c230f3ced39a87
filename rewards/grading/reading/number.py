r"""Plain numbers, exactly: `1,234`, `-3.50`, `2/3`, `\frac{2}{3}`, `2\frac{1}{2}`, `2\times10^{3}`.

Anything else is not a plain number: no letter is ever stripped to find one ("day7" is not 7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from ..tolerance import decimal_accepts, decimal_tolerance, half_a_digit
from .normalization import plain
from .number_words import value_of_words

MAX_DIGITS = 60
MAX_EXPONENT = 300

_CURRENCY = re.compile(
    r"^(?:(?:US|HK|A|C)?\\\$|[€£¥₹]|Rs\.?|US) ?(?=[-.\d])|(?<=\d) ?(?:\\\$|[€£¥₹])$"
)
# Digits in groups: 1,234 and 1{,}234, 1 234, Swiss 1'234, Indian 12,34,567.
_INTEGER = (
    r"\d{1,3}(?:,\d{3})+|\d{1,3}(?:\{,\}\d{3})+|\d{1,3}(?: \d{3})+|\d{1,3}(?:'\d{3})+"
    r"|\d{1,2}(?:,\d{2})+,\d{3}|\d+"
)
_DECIMAL = re.compile(rf"({_INTEGER})?(?:\.(\d*))?")
# Where a comma or the dots cannot mean anything else: 1.234.567, 1.234,56 and 1 234,56.
_CONTINENTAL = re.compile(
    r"([1-9]\d{0,2}(?:\.\d{3}){2,})(?:,(\d+))?|([1-9]\d{0,2}(?:[. ]\d{3})+),(\d{1,2})"
)
# A comma that cannot separate thousands: "1000,99", "0,111", "1,22".
_DECIMAL_COMMA = re.compile(r"(-?)(\d+),(\d{1,2}|\d{4,})|(-?)(\d{4,}|0),(\d+)")
_SCIENTIFIC = re.compile(
    r"(?:(.+?) ?(?:\\times|\\cdot|\*|[xX]|times)) ?10\^(?:\{([-+]?\d+)\}|(\d+))"
    r"|(.*\d\.?)[eE]([-+]?\d+)"
)
_POWER_OF_TEN = re.compile(r"10\^(?:\{(-?\d+)\}|(\d+))")
_FRACTION = re.compile(r"(-?\d+)/(-?\d+)|\\frac\{(-?\d+)\}\{(-?\d+)\}")
_MAGNITUDE = re.compile(r"(.*\d) (thousand|million|billion|trillion)|(.*\d) ?([万亿])")
_ZEROS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8}
_MINUS = re.compile(r"^(?:negative|minus) (?=\w)|^负(?=\w)", re.IGNORECASE)
_MIXED = re.compile(r"(\d+)(?: ?and)? ?(?:\\frac\{(\d+)\}\{(\d+)\}|(?<=[ d])(\d+)/(\d+))")
# 0.\overline{3}, 0.1\dot{6}, 0.\dot{1}4\dot{2}, 0.(3); and 0.333..., which shows its period thrice.
_REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\(?:overline|bar)(?:\{(\d+)\}|(\d))|\((\d+)\)"
    r"|\\dot(?:\{(\d)\}|(\d))(?:(\d*)\\dot(?:\{(\d)\}|(\d)))?)"
)
_ELLIPSIS = re.compile(r"(\d*)\.(\d*?)(\d{1,6}?)\3\3+(?:\.\.\.?|\\(?:ldots|dots|cdots))")


@dataclass(frozen=True, slots=True)
class PlainNumber:
    """An exact value and how it was written.

    Example: "12.50%" is `PlainNumber(Fraction(25, 2), decimals=2, percent=True)`.
    `decimals` is None for fractions and mixed numbers, which are exact.
    """

    value: Fraction
    decimals: int | None = 0
    percent: bool = False

    @property
    def is_rounded(self) -> bool:
        """Whether this is a decimal with a fractional part, whose exact value may lie beside it."""
        return bool(self.decimals) and self.value.denominator != 1

    @property
    def latex(self) -> str:
        """The exact value for a parser that knows fewer spellings."""
        top, bottom = self.value.as_integer_ratio()
        sign, fraction = "-" if top < 0 else "", rf"\frac{{{abs(top)}}}{{{bottom}}}"
        return f"{sign}{abs(top) if bottom == 1 else fraction}" + (r"\%" if self.percent else "")

    @property
    def tolerance(self) -> Fraction:
        """How far from this gold value an irrational answer may be, 0 where it is exact."""
        if not self.decimals or self.value.denominator == 1:
            return Fraction(0)
        return decimal_tolerance(self.value, self.decimals)

    @property
    def tolerance_of_exact(self) -> Fraction:
        """How far from an exact gold value this decimal, an answer, may be: half its last digit."""
        return half_a_digit(self.value, self.decimals) if self.decimals else Fraction(0)

    def accepts(
        self, prediction: PlainNumber, precision: int | None = None, lenient: bool = False
    ) -> bool:
        """Whether `prediction` is this gold number; see `kvl.rewards.tolerance`.

        Whole numbers are exact, also when written 9.0 (data sets print floats that way). A
        percentage only equals a percentage, unless `lenient`: then the sign, like a unit, may
        be left out or added, but 12 never equals 1200 %. `precision` is the number of decimals a
        benchmark compares, where it says so.
        """
        if self.percent != prediction.percent and not lenient:
            return False
        if self.value == prediction.value:
            return True
        if precision is not None and (
            abs(self.value - prediction.value) < Fraction(1, 2 * 10**precision)
        ):
            return True
        if self.value.denominator == 1:
            return False
        if self.decimals is None:
            return abs(self.value - prediction.value) < prediction.tolerance_of_exact
        return decimal_accepts(self.value, self.decimals, prediction.value, prediction.decimals)


def parse_number(text: str, decimal_comma: bool = False) -> PlainNumber | None:
    """The plain number that is the whole of `text`, or None.

    With `decimal_comma`, a comma that cannot separate thousands is a decimal point; otherwise
    "1,22" is no number but a list.
    """
    text = _CURRENCY.sub("", _MINUS.sub("-", plain(text)))
    if decimal_comma and (match := _DECIMAL_COMMA.fullmatch(text)):
        text = "".join(
            (match[1] or match[4] or "", match[2] or match[5], ".", match[3] or match[6])
        )
    percent = re.search(r"(?:\\?%|percent|per cent|pct)$", text)
    if percent:
        text = text[: percent.start()].rstrip()
    if sum(map(str.isdigit, text)) > MAX_DIGITS:
        return None
    sign = 1
    if text[:1] in ("-", "+"):
        sign = -1 if text[0] == "-" else 1
        text = _CURRENCY.sub("", text[1:].lstrip())
    number = _unsigned(text)
    if number is None and (spelled := value_of_words(text)) is not None:
        number = PlainNumber(spelled, 0 if spelled.denominator == 1 else None)
    if number is None:
        return None
    return PlainNumber(sign * number.value, number.decimals, percent is not None)


def _unsigned(text: str) -> PlainNumber | None:
    match = _DECIMAL.fullmatch(text)
    if match and (match[1] or match[2]):
        return _decimal(match[1] or "", match[2] or "")
    if match := _CONTINENTAL.fullmatch(text):
        return _decimal(match[1] or match[3], match[2] or match[4] or "")
    if match := _MIXED.fullmatch(text):
        whole, top, bottom = (int(group) for group in match.groups() if group)
        return PlainNumber(whole + Fraction(top, bottom), None) if bottom else None
    if match := _FRACTION.fullmatch(text):
        top, bottom = (int(group) for group in match.groups() if group)
        return PlainNumber(Fraction(top, bottom), None) if bottom else None
    if match := _SCIENTIFIC.fullmatch(text):
        return _scientific(match[1] or match[4], int(match[2] or match[3] or match[5]))
    if match := _POWER_OF_TEN.fullmatch(text):
        return _scientific("1", int(match[1] or match[2]))
    if match := _MAGNITUDE.fullmatch(text):
        return _scientific(match[1] or match[3], _ZEROS[match[2] or match[4]])
    if match := _ELLIPSIS.fullmatch(text):
        return _repeating(match[1], match[2], match[3]) if _shows_period(match) else None
    if match := _REPEATING.fullmatch(text):
        whole, before, *period = match.groups()
        return _repeating(whole, before, "".join(part for part in period if part))
    return None


def _decimal(whole: str, fraction: str) -> PlainNumber:
    digits = re.sub(r"\D", "", whole) + fraction
    return PlainNumber(Fraction(int(digits), 10 ** len(fraction)), len(fraction))


def _shows_period(match: re.Match[str]) -> bool:
    return len(match[3]) == 1 or match[0].count(match[3]) >= 3


def _repeating(whole: str, before: str, period: str) -> PlainNumber:
    scale = 10 ** len(before)
    tail = Fraction(int(period), (10 ** len(period) - 1) * scale)
    return PlainNumber(Fraction(int((whole or "0") + before), scale) + tail, None)


def _scientific(mantissa_text: str, exponent: int) -> PlainNumber | None:
    mantissa = parse_number(mantissa_text)
    if abs(exponent) > MAX_EXPONENT or mantissa is None or mantissa.percent:
        return None
    if mantissa.decimals is None:
        return None
    decimals = max(0, mantissa.decimals - exponent)
    return PlainNumber(mantissa.value * Fraction(10) ** exponent, decimals)
