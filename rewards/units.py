r"""Units after a value: `12 \mathrm{~cm}` is the value `12` and the unit `cm`.

Only known units are taken off, since stripping unknown letters would accept "day7" or "7x" for 7.
Percent signs are not units: they change the value (see number.py).
"""

from __future__ import annotations

import re

from .normalization import plain

_NAMES = {
    "mm": ("mm", "millimeter", "millimeters", "millimetre", "millimetres"),
    "cm": ("cm", "centimeter", "centimeters", "centimetre", "centimetres"),
    "dm": ("dm",),
    "m": ("m", "meter", "meters", "metre", "metres"),
    "km": ("km", "kilometer", "kilometers", "kilometre", "kilometres"),
    "in": ("inch", "inches"),
    "ft": ("ft", "foot", "feet"),
    "mi": ("mile", "miles"),
    "g": ("g", "gram", "grams"),
    "kg": ("kg", "kilogram", "kilograms"),
    "l": ("L", "liter", "liters", "litre", "litres"),
    "ml": ("ml", "mL"),
    "s": ("s", "sec", "second", "seconds"),
    "min": ("min", "minute", "minutes"),
    "h": ("h", "hour", "hours"),
    "day": ("day", "days"),
    "year": ("year", "years"),
    "deg": (r"^\circ", "degree", "degrees"),
    "dollar": ("dollar", "dollars"),
    "cent": ("cent", "cents"),
    "unit": ("unit", "units"),
}
_CANONICAL = {name: unit for unit, names in _NAMES.items() for name in names}
_PREFIX_WORDS = {"square ": "^2", "cubic ": "^3"}
_ALTERNATIVES = "|".join(re.escape(name) for name in sorted(_CANONICAL, key=len, reverse=True))
_UNIT = re.compile(rf"(.*[^\s\\A-Za-z])( ?)((?:square |cubic )?)({_ALTERNATIVES})(\^[23])?")


def split_unit(text: str) -> tuple[str, str | None]:
    """The value and its canonical unit (None if there is none) of an answer.

    A one-letter unit must stand apart from the number: "5 m" has a unit, "5m" may be a variable.
    """
    text = plain(text)
    match = _UNIT.fullmatch(text)
    if match is None:
        return text, None
    value, space, prefix, name, power = match.groups()
    if len(name) == 1 and not space:
        return text, None
    return value, _CANONICAL[name] + (power or _PREFIX_WORDS.get(prefix, ""))


def units_agree(gold: str | None, prediction: str | None) -> bool:
    """A unit may be added or left out, but not exchanged for another one."""
    return gold is None or prediction is None or gold == prediction
