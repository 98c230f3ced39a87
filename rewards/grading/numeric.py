"""Are two parsed expressions equal? Their values at a few points tell, mostly.

math-verify simplifies the difference of two expressions, which takes milliseconds to seconds.
Values to thirty digits decide nearly all pairs in a fraction of that: far apart at one point is
unequal, equal to twenty digits at all of them is equal; anything else is left to math-verify. All
differences are relative: 1/2004! and 1/2007! are as different as 1 and 8e9. Runs in the workers of
`MathPool`, and where a gold answer is checked.
"""

from __future__ import annotations

from typing import Any

DIGITS = 30
EQUAL = 1e-20
# A decimal is parsed as a float of fifteen digits.
EQUAL_FLOATS = 1e-14
FAR_APART = 1e-9
MAX_OPERATIONS = 200
MAX_EXPONENT = 20
MAX_INTEGER = 10**12
MAX_EXACT_BITS = 200_000
# Of both signs, so that sqrt(x^2) is not x; unremarkable, so that nothing cancels by chance.
_POINTS = ((137, 101), (-211, 97), (353, 67), (29, 83))
# How many points must have real values: sqrt(1/n) and 1/sqrt(n) differ where neither has one.
_REAL_POINTS = 3


def equal_by_value(gold: Any, prediction: Any, tolerance: float | None = None) -> bool | None:
    """True, False, or None if values do not decide. Sets, tuples and matrices by their items.

    Numbers closer than `tolerance` are equal as well.
    """
    from sympy import Expr, FiniteSet, Interval, MatrixBase, Tuple
    from sympy.core.relational import Relational

    if isinstance(gold, FiniteSet) and isinstance(prediction, FiniteSet):
        return _equal_sets(list(gold.args), list(prediction.args), tolerance)
    if isinstance(gold, Interval) and isinstance(prediction, Interval):
        if _open_ends(gold) != _open_ends(prediction):
            return False
        return _all_equal((gold.start, gold.end), (prediction.start, prediction.end), tolerance)
    if isinstance(gold, Tuple) and isinstance(prediction, Tuple):
        return _all_equal(gold.args, prediction.args, tolerance)
    if isinstance(gold, MatrixBase) and isinstance(prediction, MatrixBase):
        if gold.shape != prediction.shape:
            return False
        return _all_equal(list(gold.flat()), list(prediction.flat()), tolerance)
    if isinstance(gold, Relational) and type(gold) is type(prediction):
        # Other equations may have other sides and say the same.
        if gold.lhs == prediction.lhs and gold.lhs.is_Symbol:
            return equal_by_value(gold.rhs, prediction.rhs, tolerance)
        return None
    if isinstance(gold, Expr) and isinstance(prediction, Expr):
        return _equal_expressions(gold, prediction, tolerance)
    return None


def _open_ends(interval: Any) -> tuple[bool, bool]:
    return bool(interval.left_open), bool(interval.right_open)


def _all_equal(golds: Any, predictions: Any, tolerance: float | None) -> bool | None:
    if len(golds) != len(predictions):
        return False
    found = [
        equal_by_value(one, other, tolerance) for one, other in zip(golds, predictions, strict=True)
    ]
    return False if False in found else None if None in found else True


def _equal_sets(golds: list[Any], predictions: list[Any], tolerance: float | None) -> bool | None:
    """Whether each gold item has one equal item of its own, in any order."""
    if len(golds) != len(predictions):
        return False
    for one in golds:
        found = [equal_by_value(one, other, tolerance) for other in predictions]
        if True in found:
            predictions.pop(found.index(True))
        else:
            return None if None in found else False
    return True


def _equal_expressions(gold: Any, prediction: Any, tolerance: float | None) -> bool | None:
    from sympy import Float

    if gold == prediction and gold.is_finite is not False and not gold.has(Float):
        return None if _is_undefined(gold) else True
    if gold.free_symbols != prediction.free_symbols:
        return None
    if gold.count_ops() + prediction.count_ops() > MAX_OPERATIONS:
        return None
    differences = []
    for point in _POINTS if gold.free_symbols else _POINTS[:1]:
        values = _values(gold, prediction, point)
        if values is None:
            return None
        if tolerance and not gold.free_symbols and abs(values[0] - values[1]) < tolerance:
            return True
        if not gold.free_symbols or all(value.is_real for value in values):
            differences.append(_relative_difference(*values))
        elif any(value.is_real for value in values):
            return None
    if any(difference > FAR_APART for difference in differences):
        return False
    if gold.free_symbols and len(differences) < _REAL_POINTS:
        return None
    if _is_extreme(gold) or _is_extreme(prediction):
        return _equal_exactly(gold, prediction)
    equal = EQUAL_FLOATS if gold.has(Float) or prediction.has(Float) else EQUAL
    return True if all(difference < equal for difference in differences) else None


def _is_undefined(expression: Any) -> bool:
    from sympy import nan, zoo

    return expression.has(nan, zoo)


def _relative_difference(one: Any, other: Any) -> Any:
    """|one - other| in units of the larger; where both are 0 to thirty digits, 0."""
    larger = max(abs(one), abs(other))
    return abs(one - other) / larger if larger else larger


def _equal_exactly(gold: Any, prediction: Any) -> bool | None:
    """Whether two rational numbers are equal, where thirty digits may not tell; else None."""
    from sympy import Pow, Rational, factorial, log

    for expression in (gold, prediction):
        if expression.free_symbols or expression.atoms(factorial):
            return None
        bits = 0.0
        for power in expression.atoms(Pow):
            if not power.exp.is_Integer:
                return None
            bits += abs(float(power.exp * log(abs(power.base) + 2).evalf(5)))
        if not bits < MAX_EXACT_BITS:
            return None
    one, other = gold.doit(), prediction.doit()
    if not (isinstance(one, Rational) and isinstance(other, Rational)):
        return None
    return bool(one == other)


def _is_extreme(expression: Any) -> bool:
    """Whether thirty digits may not tell it from its neighbours: (3^1008-1)/3^1009 and 1/3."""
    from sympy import Pow, Rational

    powers = (power.exp for power in expression.atoms(Pow))
    numbers = expression.atoms(Rational)
    return any(e.is_number and abs(e) > MAX_EXPONENT for e in powers) or any(
        max(abs(n.p), n.q) > MAX_INTEGER for n in numbers
    )


def _values(gold: Any, prediction: Any, point: tuple[int, int]) -> tuple[Any, Any] | None:
    """Both values where each symbol has a value of its own, or None if one is not a number."""
    from sympy import Rational

    symbols = sorted(gold.free_symbols, key=str)
    top, bottom = point
    places = {symbol: Rational(top + 10 * i, bottom + i) for i, symbol in enumerate(symbols)}
    values = []
    for expression in (gold, prediction):
        value = expression.subs(places).evalf(DIGITS)
        if not (value.is_number and value.is_finite):
            return None
        if not all(part.is_comparable for part in value.as_real_imag()):
            return None
        values.append(value)
    return values[0], values[1]
