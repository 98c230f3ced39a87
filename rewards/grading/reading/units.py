r"""Units beside a value: `12 \mathrm{~cm}` is `12` and the unit `cm`, `€15` is `15` and `euro`.

Only known units are taken off, since stripping unknown letters would accept "day7" or "7x" for 7.
Percent signs are not units: they change the value (see number.py).
"""

from __future__ import annotations

import re
from collections import Counter

from .normalization import plain
from .unit_names import MEANINGS, MONEY, UNIT_OF

_POWER_WORDS = {"square": 2, "sq": 2, "sq.": 2, "平方": 2, "cubic": 3, "cu": 3, "立方": 3}
_ALTERNATIVES = "|".join(re.escape(name) for name in sorted(UNIT_OF, key=len, reverse=True))
_PREFIX = r"(?:square |sq\.? ?|cubic |cu |平方|立方)"
# A power: m^2, m2, s^{-1}; "5m-2" is a difference.
_POWER = r"(?:\^\{-?\d\}|\^-?\d|[23](?!\d)| squared| cubed)?"
_ONE = rf"{_PREFIX}?(?:{_ALTERNATIVES}){_POWER}"
_JOINT = r"(?: ?/ ?| per |每| ?\\cdot ?| ?\* ?| |(?<=\})(?=[A-Za-z])|(?=\^\\circ))"
_PRODUCT = rf"(?:{_ONE})(?:{_JOINT}(?:{_ONE}|\((?:{_ONE})(?:{_JOINT}(?:{_ONE}))*\)))*"
_UNIT = re.compile(rf"(.*?(?:[^\s\\A-Za-z]|\\[A-Za-z]+))( ?)({_PRODUCT})", re.DOTALL)
_PART = re.compile(
    rf"(?P<prefix>{_PREFIX})?(?P<name>{_ALTERNATIVES})"
    r"(?:\^?\{?(?P<power>-?\d)\}?| (?P<word>squared|cubed))?$"
)
_FOLLOWING = re.compile(rf" ?({_PRODUCT})(?![A-Za-z])")
_MONEY = "|".join(re.escape(name) for name in sorted(MONEY, key=len, reverse=True))
_MONEY_FIRST = re.compile(rf"([-+]?)(?:{_MONEY}) ?(?=[-+]?[\d.])")
_UNPAIRED_DOLLAR = re.compile(r"^([^$]*)(?<!\\)\$([^$]*)$", re.DOTALL)
_OF_AN_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])[^=+]*$")
_TINY = re.compile(r"10\^\{-\d+\}$")
_GLUED = re.compile(r"[A-Za-z](?:\^?\{?-?\d\}?)?")
MAX_UNIT_TEXT = 300


def split_unit(text: str, glued: bool = False) -> tuple[str, str | None]:
    """The value and its unit (None if there is none) of an answer, by one name per unit.

    A one-letter unit must stand apart from the number: "5 m" has a unit, "5m" may be a variable;
    with `glued` it is taken for the unit.
    """
    # A lone dollar sign delimits nothing.
    text = plain(_UNPAIRED_DOLLAR.sub(r"\1\\$\2", text.strip()) if text.count("$") == 1 else text)
    if len(text) > MAX_UNIT_TEXT:
        return text, None
    money = _MONEY_FIRST.match(text)
    if money:
        sign, amount = money[1], text[money.end() :]
        unit = UNIT_OF[money[0].removeprefix(sign).strip()]
        rest, second = split_unit(amount)
        return sign + (rest if second == unit else amount), unit
    match = _UNIT.fullmatch(text)
    if match is None:
        return text, None
    value, space, unit = match.groups()
    # `plain` takes the space after 10^{-19} away.
    if _GLUED.fullmatch(unit) and not space and not glued and not _TINY.search(value):
        return text, None
    if value.endswith(("=", "+", "-", "*", ",")):
        return text, None
    name = _name(unit)
    if name == "deg" and _OF_AN_ANGLE.search(value):
        return text, None
    return value, name or None


def _name(unit: str) -> str:
    """One name for m/s, m s^{-1} and metres per second; "" for a word that only counts."""
    powers: Counter[str] = Counter()
    sign = 1
    for joint, part in re.findall(rf"(^|{_JOINT})(\([^()]*\)|(?:{_ONE}))", unit):
        joint = joint.strip()
        # After a slash only the next unit is below the line: W/m K is rarely meant, J/(kg K) is.
        sign = -1 if joint in ("/", "per", "每") else 1
        inner = _name(part[1:-1]) if part.startswith("(") else _factor(part)
        for factor in filter(None, inner.split("*")):
            name, _, power = factor.partition("^")
            powers[name] += sign * int(power or 1)
    return "*".join(
        name if power == 1 else f"{name}^{power}" for name, power in sorted(powers.items()) if power
    )


def _factor(part: str) -> str:
    match = _PART.match(part)
    if match is None or not (name := UNIT_OF[match["name"]]):
        return ""
    word = {"squared": 2, "cubed": 3, None: 1}[match["word"]]
    power = int(match["power"] or word) * _POWER_WORDS.get((match["prefix"] or "").strip(), 1)
    factors = [factor.partition("^") for factor in name.split("*")]
    return "*".join(f"{one}^{int(own or 1) * power}" for one, _, own in factors)


def unit_after(text: str, position: int) -> str | None:
    """The unit that follows a number ending at `position`, in running text."""
    match = _FOLLOWING.match(plain(text[position : position + 60]))
    return _name(match[1]) or None if match else None


def units_agree(gold: str | None, prediction: str | None) -> bool:
    """A unit may be added or left out, but not exchanged for another one."""
    if gold is None or prediction is None:
        return True
    meanings = MEANINGS.get(gold, frozenset([gold]))
    return bool(meanings & MEANINGS.get(prediction, frozenset([prediction])))
