"""Are two parsed expressions equal? Their values at a few points tell, mostly.

math-verify simplifies the difference of two expressions, which takes milliseconds to seconds.
Values to thirty digits decide nearly all pairs in a fraction of that: far apart at one point is
unequal, equal to twenty digits at all of them is equal; anything else is left to math-verify. Runs
in the workers of `MathPool` only.
"""

from __future__ import annotations

from typing import Any

DIGITS = 30
EQUAL = 1e-20
MAX_OPERATIONS = 200
MAX_EXPONENT = 20
MAX_INTEGER = 10**12
# Of both signs, so that sqrt(x^2) is not x; unremarkable, so that nothing cancels by chance.
_POINTS = ((137, 101), (-211, 97), (353, 67))


def equal_by_value(gold: Any, prediction: Any, precision: int) -> bool | None:
    """True, False, or None if values do not decide. `precision` decimals count as equal."""
    from sympy import Expr

    if not (isinstance(gold, Expr) and isinstance(prediction, Expr)):
        return None
    if gold.free_symbols != prediction.free_symbols:
        return None
    if gold.count_ops() + prediction.count_ops() > MAX_OPERATIONS:
        return None
    if _is_extreme(gold) or _is_extreme(prediction):
        return None
    differences = []
    for point in _POINTS if gold.free_symbols else _POINTS[:1]:
        values = _values(gold, prediction, point)
        if values is None:
            return None
        differences.append(abs(values[0] - values[1]) / (1 + abs(values[0])))
    if any(difference > 10.0 ** (1 - precision) for difference in differences):
        return False
    return True if all(difference < EQUAL for difference in differences) else None


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
        if not (value.is_number and value.is_finite and value.is_comparable):
            return None
        values.append(value)
    return values[0], values[1]
