"""Values and expressions: string, then number, then (only if both fail to decide) math-verify."""

from __future__ import annotations

import re
from fractions import Fraction

from .clock import clock_times_agree
from .complexity import refusal
from .math_pool import Comparison, MathJob
from .ranges import ranges_agree
from .reading.extraction import NoAnswer
from .reading.hedges import is_value, says_more, without_assignment
from .reading.normalization import comparable, plain
from .reading.number import parse_number
from .reading.units import split_unit, units_agree
from .solutions import solutions_agree

# What math-verify may be given: no quotes, no dunder names, no unknown commands. latex2sympy does
# not evaluate strings, so this is a second fence, not the only one.
_MATHEMATICS = re.compile(r"[0-9A-Za-z\\{}()\[\]+\-*/^_=<>,.;:!|%& ]*")
_KNOWN_COMMANDS = frozenset(
    re.findall(
        r"\w+",
        """
        frac sqrt pi e ln log exp sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh
        infty cup cap setminus emptyset varnothing in le ge lt gt ne neq times cdot div pm mp circ
        binom alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi varphi omega
        Delta Omega mathbb lfloor rfloor lceil rceil begin end
        """,
    )
)
_INTERVAL = re.compile(r"[(\[][^()\[\]]+,[^()\[\]]+[)\]]")
_BETWEEN = re.compile(r"^([^<>=]+?)(<|\\le)\s?[A-Za-z]\s?(<|\\le)(?![A-Za-z])\s?([^<>=]+)$")
_ONE_SIDED = re.compile(r"^[A-Za-z]\s?(<|>|\\le|\\ge)(?![A-Za-z])\s?([^<>=,]+)$")
_ANGULAR = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\^\\circ")
_COUNTED = re.compile(r"([\d.,/]+) ((?!or |and |to )[A-Za-z]{3,}(?: [A-Za-z]+)?)")
_EULER = re.compile(r"(?<![A-Za-z\\])e(?![A-Za-z])")
_LETTER = re.compile(r"[A-Za-z]")
_COMMAND = re.compile(r"\\([A-Za-z]+)")


def compare(
    gold: str, prediction: str, lenient: bool = False, precision: int | None = None
) -> bool | MathJob:
    """Whether the prediction equals the gold answer, or the job that would tell.

    `lenient` (policy eval) lets a percent sign be left out or added, takes one left-hand side off,
    and reads a ratio as a fraction; `precision` is the number of decimals that are compared.
    Raises `NoAnswer` if the prediction is too complex to be evaluated.
    """
    if comparable(prediction) == comparable(gold):
        return True
    decided = clock_times_agree(gold, prediction, lenient)
    if decided is None:
        decided = ranges_agree(gold, prediction)
    if decided is None:
        decided = solutions_agree(
            gold, prediction, lambda one, other: compare_one(one, other, lenient, precision)
        )
    return compare_one(gold, prediction, lenient, precision) if decided is None else decided


def compare_one(
    gold: str, prediction: str, lenient: bool = False, precision: int | None = None
) -> bool | MathJob:
    """`compare` for answers of a single value."""
    if comparable(prediction) == comparable(gold):
        return True
    (gold, gold_unit), (prediction, prediction_unit) = _split_units(gold, prediction, lenient)
    if not units_agree(gold_unit, prediction_unit):
        return False
    if lenient:
        prediction = _exact_or_rounded(prediction, gold)
        if _INTERVAL.fullmatch(gold):
            prediction = _ONE_SIDED.sub(_ray, _BETWEEN.sub(_interval, prediction))
    prediction = without_assignment(prediction, gold, lenient)
    if ":" in gold and "=" not in gold:
        if lenient and gold.count(":") == 1 and ":" not in prediction and _may_divide(gold):
            return _compare_values(_fraction(gold.split(":")), prediction, lenient, precision)
        return _compare_ratios(gold, prediction)
    if lenient and prediction.count(":") == 1 and _may_divide(prediction):
        prediction = _fraction(prediction.split(":"))
    return _compare_values(gold, prediction, lenient, precision)


def _split_units(
    gold: str, prediction: str, lenient: bool
) -> tuple[tuple[str, str | None], tuple[str, str | None]]:
    """Both values and units. "1.5m" is metres where the other side has the same unit, or no letter
    that could be the variable m.
    """
    glued_gold = not _LETTER.search(_COMMAND.sub("", prediction))
    glued_prediction = lenient and not _LETTER.search(_COMMAND.sub("", gold))
    if noun := counted(gold):
        said = counted(prediction)
        prediction = said[0] if said and said[1] == noun[1] else prediction
        return (noun[0], None), split_unit(prediction)
    one, other = split_unit(gold, glued_gold), split_unit(prediction, glued_prediction)
    if one[1] is None and other[1] and (glued := split_unit(gold, True))[1] == other[1]:
        one = glued
    if other[1] is None and one[1] and (glued := split_unit(prediction, True))[1] == one[1]:
        other = glued
    return one, other


def counted(text: str) -> tuple[str, str] | None:
    """The number and the noun of a gold answer such as "360 sets"; the noun may be left out."""
    match = _COUNTED.fullmatch(plain(text))
    if match is None or split_unit(text)[1] or parse_number(text) or not parse_number(match[1]):
        return None
    return match[1], match[2].casefold()


def _compare_values(
    gold: str, prediction: str, lenient: bool = False, precision: int | None = None
) -> bool | MathJob:
    if comparable(prediction) == comparable(gold):
        return True
    gold_number, number = parse_number(gold, lenient), parse_number(prediction, lenient)
    if gold_number and number:
        return gold_number.accepts(number, precision, lenient)
    reason = refusal(prediction)
    if reason and reason != refusal(gold):
        raise NoAnswer(reason)
    said = _EULER.sub("1", prediction) if gold_number else prediction
    if not is_value(gold) or says_more(said, gold) or not _is_mathematics(prediction, gold):
        return False
    tolerance = gold_number.tolerance if gold_number else Fraction(0)
    if number and not gold_number:
        tolerance = number.tolerance_of_exact
    if precision is not None:
        tolerance = max(tolerance, Fraction(1, 2 * 10**precision))
    return Comparison(
        gold_number.latex if gold_number else in_radians(gold),
        number.latex if number else in_radians(prediction),
        float(tolerance) or None,
        relations_as_sets=lenient,
    )


def in_radians(text: str) -> str:
    """`\\sin30^\\circ` for a parser that takes every angle for radians."""
    return _DEGREES.sub(r"(\\frac{\1\\pi}{180})", text) if _ANGULAR.search(text) else text


def _interval(match: re.Match[str]) -> str:
    """`1<x\\le2` as the interval (1,2]."""
    low, first, second, high = match.groups()
    return f"{'(' if first == '<' else '['}{low},{high}{')' if second == '<' else ']'}"


def _ray(match: re.Match[str]) -> str:
    """`x\\ge1` as the interval [1,\\infty)."""
    relation, bound = match.groups()
    if relation in ("<", r"\le"):
        return rf"(-\infty,{bound}{')' if relation == '<' else ']'}"
    return rf"{'(' if relation == '>' else '['}{bound},\infty)"


def _exact_or_rounded(prediction: str, gold: str) -> str:
    """`x=1/3\\approx0.33` states one value twice: exactly, and as a decimal."""
    exact, approximately, rounded = prediction.partition(r"\approx")
    if not approximately or r"\approx" in gold or not re.search(r"\d", exact):
        return prediction
    number = parse_number(gold)
    return rounded if number and number.is_rounded else exact


def _compare_ratios(gold: str, prediction: str) -> bool | MathJob:
    gold_parts, parts = gold.split(":"), prediction.split(":")
    if len(parts) != len(gold_parts):
        return False
    pairs = [
        (parse_number(one), parse_number(other))
        for one, other in zip(gold_parts, parts, strict=True)
    ]
    scales: set[Fraction | None] = set()
    for gold_number, number in pairs:
        if gold_number is None or number is None:
            scales.add(None)
        elif gold_number.value == 0 or number.value == 0:
            if gold_number.value != number.value:
                return False
        else:
            scales.add(number.value / gold_number.value)
    if None not in scales:
        return len(scales) == 1
    return len(parts) == 2 and _compare_values(_fraction(gold_parts), _fraction(parts))


def _may_divide(ratio: str) -> bool:
    """Whether a ratio is a fraction as well: 5:0, a score, is none."""
    number = parse_number(ratio.partition(":")[2])
    return number is None or number.value != 0


def _fraction(parts: list[str]) -> str:
    top, bottom = (part.strip() for part in parts)
    return rf"\frac{{{top}}}{{{bottom}}}"


def _is_mathematics(prediction: str, gold: str) -> bool:
    if not _MATHEMATICS.fullmatch(prediction) or "__" in prediction:
        return False
    commands = set(_COMMAND.findall(prediction))
    return commands <= _KNOWN_COMMANDS | set(_COMMAND.findall(gold))
