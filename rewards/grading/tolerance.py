"""How far from a gold number an answer may be, from the gold number's own significant digits.

A whole number, a fraction and a decimal that looks exact (2.5, 0.75) have no tolerance. Any other
decimal was rounded to its last digit: an answer that rounds to it may be meant, but one or two
digits say little, so that a wrong answer may round to them as well. All of it is relative: a tiny
gold value gives no more room than a large one.
"""

from __future__ import annotations

from fractions import Fraction

# A gold such as 15.700000000000001 is a float that was printed, not fifteen meaningful digits.
FLOAT_NOISE = Fraction(1, 10**9)
# What a decimal must show to stand for a fraction, which it never equals.
DIGITS_OF_EXACT = 6
# 0.034965 shows five digits of 5/143, but the sixth and seventh are 03.
_SHORT_DECIMAL = Fraction(2, 10**6)
_TWO_DIGITS = Fraction(1, 200)
_TWO_DIGITS_OF_SURD = Fraction(1, 100)
_SIMPLE_DENOMINATOR = 12


def significant_digits(value: Fraction, decimals: int) -> int:
    """How many digits a decimal shows after its leading zeros: 0.050 shows two."""
    return len(str(abs(round(value * 10**decimals))))


def looks_exact(value: Fraction, decimals: int) -> bool:
    """Whether a decimal reads as a value of its own, not as one that was rounded.

    2.5, 0.25 and 12.125 are halves, quarters, eighths, and so is the mantissa of 2.5e-4; 2.50 and
    3.14 were written to a digit.
    """
    if round(value * 10**decimals) % 10 == 0:
        return False
    digits = significant_digits(value, decimals)
    mantissa = value * Fraction(10) ** (decimals - digits + 1)
    return any(n.denominator & (n.denominator - 1) == 0 for n in (value, mantissa))


def decimal_accepts(
    gold: Fraction, decimals: int, answer: Fraction, answer_decimals: int | None
) -> bool:
    """Whether `answer` may be the value that was rounded to the gold decimal.

    `answer_decimals` is None where the answer is a fraction.
    """
    difference = abs(gold - answer)
    if difference <= abs(gold) * FLOAT_NOISE:
        return True
    if difference >= Fraction(1, 2 * 10**decimals):
        return False
    digits = significant_digits(gold, decimals)
    if digits < 2 or looks_exact(gold, decimals):
        return False
    if answer_decimals is not None and answer_decimals <= decimals:
        return False
    return (
        digits > 2
        or difference <= abs(gold) * _TWO_DIGITS
        or _is_simple_fraction(answer, answer_decimals)
    )


def decimal_tolerance(gold: Fraction, decimals: int) -> Fraction:
    """How far from the gold decimal an irrational answer may be; 0 if it cannot be meant."""
    digits = significant_digits(gold, decimals)
    if digits < 2 or looks_exact(gold, decimals):
        return Fraction(0)
    half = Fraction(1, 2 * 10**decimals)
    return half if digits > 2 else min(half, abs(gold) * _TWO_DIGITS_OF_SURD)


def half_a_digit(value: Fraction, decimals: int) -> Fraction:
    """How far a decimal answer may be from an exact gold value: it must show about six digits."""
    half = Fraction(1, 2 * 10**decimals)
    if significant_digits(value, decimals) >= DIGITS_OF_EXACT:
        return half
    return min(half, abs(value) * _SHORT_DECIMAL)


def _is_simple_fraction(answer: Fraction, decimals: int | None) -> bool:
    """Whether the answer is a fraction such as 1/3, or such a fraction rounded: 0.333."""
    simple = answer.limit_denominator(_SIMPLE_DENOMINATOR)
    if decimals is None:
        return simple == answer
    return abs(simple - answer) <= Fraction(1, 2 * 10**decimals)
