r"""Plain numbers, exactly: `1,234`, `-3.50`, `2/3`, `\frac{2}{3}`, `2\frac{1}{2}`, `2\times10^{3}`.

Anything else is not a plain number: no letter is ever stripped to find one ("day7" is not 7).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from .normalization import plain
from .number_words import number_of_words

MAX_DIGITS = 60
MAX_EXPONENT = 300
# A gold such as 15.700000000000001 is a float that was printed, not fifteen meaningful digits.
FLOAT_NOISE = Fraction(1, 10**9)
# How far a decimal may be from a gold fraction: math-verify's own six decimals.
DECIMAL_OF_FRACTION = Fraction(5, 10**7)

_CURRENCY = re.compile(r"^(?:\\\$|[€£¥]|(?:US|Rs|HK)\\?\$?) ?(?=[-.\d])|(?<=\d) ?(?:\\\$|[€£¥])$")
_INTEGER = r"\d{1,3}(?:,\d{3})+|\d{1,3}(?:\{,\}\d{3})+|\d{1,3}(?: \d{3})+|\d+"
_DECIMAL = re.compile(rf"({_INTEGER})?(?:\.(\d*))?")
# A comma that cannot separate thousands: "1000,99", "0,111", "1,22".
_DECIMAL_COMMA = re.compile(r"(-?)(\d+),(\d{1,2}|\d{4,})|(-?)(\d{4,}|0),(\d+)")
_SCIENTIFIC = re.compile(
    r"(.+?)(?:(?:\\times|\\cdot|\*|x)10\^(?:\{(-?\d+)\}|(-?\d+))|[eE]([+-]?\d+))"
)
_FRACTION = re.compile(r"(-?\d+)/(-?\d+)|\\frac\{(-?\d+)\}\{(-?\d+)\}")
_MAGNITUDE = re.compile(r"(.*\d) (thousand|million|billion|trillion)|(.*\d) ?([万亿])")
_ZEROS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12, "万": 4, "亿": 8}
_MINUS = re.compile(r"^(?:negative|minus) (?=\w)", re.IGNORECASE)
_MIXED = re.compile(r"(\d+)(?:\\frac\{(\d+)\}\{(\d+)\}| (\d+)/(\d+))")


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
    def tolerance(self) -> Fraction:
        """How far from this gold value a prediction may be: half a unit of its last decimal.

        Whole numbers are exact, also when written 9.0 (data sets print floats that way).
        """
        if self.value.denominator == 1:
            return Fraction(0)
        if self.decimals is None:
            return DECIMAL_OF_FRACTION
        return max(Fraction(1, 2 * 10**self.decimals), abs(self.value) * FLOAT_NOISE)

    def accepts(
        self, prediction: PlainNumber, precision: int | None = None, lenient: bool = False
    ) -> bool:
        """Whether `prediction` is this gold number.

        A percentage only equals a percentage, unless `lenient`: then the sign, like a unit, may
        be left out or added, but 12 never equals 1200 %. `precision` is the number of decimals a
        benchmark compares, where it says so.
        """
        if self.percent != prediction.percent and not lenient:
            return False
        tolerance = self.tolerance
        if precision is not None:
            tolerance = max(tolerance, Fraction(1, 2 * 10**precision))
        return self.value == prediction.value or abs(self.value - prediction.value) < tolerance


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
    percent = re.search(r"(?:\\?%|percent|pct)$", text)
    if percent:
        text = text[: percent.start()].rstrip()
    if sum(map(str.isdigit, text)) > MAX_DIGITS:
        return None
    sign = 1
    if text[:1] in ("-", "+"):
        sign = -1 if text[0] == "-" else 1
        text = _CURRENCY.sub("", text[1:].lstrip())
    number = _unsigned(text)
    if number is None and (spelled := number_of_words(text)) is not None:
        number = PlainNumber(Fraction(spelled))
    if number is None:
        return None
    return PlainNumber(sign * number.value, number.decimals, percent is not None)


def _unsigned(text: str) -> PlainNumber | None:
    match = _DECIMAL.fullmatch(text)
    if match and (match[1] or match[2]):
        decimals = match[2] or ""
        digits = re.sub(r"\D", "", match[1] or "") + decimals
        return PlainNumber(Fraction(int(digits), 10 ** len(decimals)), len(decimals))
    if match := _MIXED.fullmatch(text):
        whole, top, bottom = (int(group) for group in match.groups() if group)
        return PlainNumber(whole + Fraction(top, bottom), None) if bottom else None
    if match := _FRACTION.fullmatch(text):
        top, bottom = (int(group) for group in match.groups() if group)
        return PlainNumber(Fraction(top, bottom), None) if bottom else None
    if match := _SCIENTIFIC.fullmatch(text):
        return _scientific(match[1], int(match[2] or match[3] or match[4]))
    if match := _MAGNITUDE.fullmatch(text):
        return _scientific(match[1] or match[3], _ZEROS[match[2] or match[4]])
    return None


def _scientific(mantissa_text: str, exponent: int) -> PlainNumber | None:
    mantissa = parse_number(mantissa_text)
    if abs(exponent) > MAX_EXPONENT or mantissa is None or mantissa.percent:
        return None
    if mantissa.decimals is None:
        return None
    decimals = max(0, mantissa.decimals - exponent)
    return PlainNumber(mantissa.value * Fraction(10) ** exponent, decimals)
