r"""Units after a value: `12 \mathrm{~cm}` is the value `12` and the unit `cm`.

Only known units are taken off, since stripping unknown letters would accept "day7" or "7x" for 7.
Percent signs are not units: they change the value (see number.py).
"""

from __future__ import annotations

import re

from .normalization import plain

_NAMES = {
    "nm": "nm nanometer nanometers 纳米",
    "mm": "mm millimeter millimeters millimetre millimetres 毫米",
    "cm": "cm cms centimeter centimeters centimetre centimetres 厘米 公分",
    "dm": "dm decimeter decimeters 分米",
    "m": "m meter meters metre metres 米",
    "km": "km kms kilometer kilometers kilometre kilometres 千米 公里",
    "in": "inch inches 英寸",
    "ft": "ft foot feet 英尺",
    "yd": "yd yard yards 码",
    "mi": "mile miles 英里",
    "mg": "mg milligram milligrams 毫克",
    "g": "g gram grams 克",
    "kg": "kg kgs kilogram kilograms 千克 公斤",
    "t": "ton tons tonne tonnes 吨",
    "lb": "lb lbs pound pounds 磅",
    "oz": "oz ounce ounces 盎司",
    "l": "L liter liters litre litres 升",
    "ml": "ml mL milliliter milliliters 毫升",
    "gal": "gallon gallons 加仑",
    "ms": "ms msec millisecond milliseconds 毫秒",
    "s": "s sec secs second seconds 秒 秒钟",
    "min": "min mins minute minutes 分钟 分",
    "h": "h hr hrs hour hours 小时 时",
    "day": "day days 天 日",
    "week": "week weeks 周 星期",
    "month": "month months 个月 月",
    "year": "year years yr yrs 年 岁",
    "deg": r"^\circ degree degrees deg 度",
    "degC": r"^\circC 摄氏度",
    "degF": r"^\circF",
    "rad": "rad radian radians 弧度",
    "N": "N newton newtons 牛 牛顿",
    "J": "J joule joules 焦 焦耳",
    "kJ": "kJ 千焦",
    "eV": "eV",
    "W": "W watt watts 瓦 瓦特",
    "kW": "kW kilowatt kilowatts 千瓦",
    "V": "V volt volts 伏 伏特",
    "mV": "mV",
    "A": "A amp amps ampere amperes 安 安培",
    "mA": "mA",
    "ohm": r"\Omega ohm ohms 欧 欧姆",
    "Hz": "Hz hertz 赫兹",
    "kHz": "kHz",
    "MHz": "MHz",
    "Pa": "Pa pascal pascals 帕",
    "kPa": "kPa",
    "K": "K kelvin kelvins",
    "mol": "mol mols mole moles 摩尔",
    "mph": "mph",
    "dollar": "dollar dollars USD 美元",
    "cent": "cent cents 美分",
    "euro": "euro euros EUR 欧元 €",
    "pound_sterling": "GBP 英镑",
    "yuan": "yuan RMB CNY 元 块 块钱 人民币",
    "unit": "unit units 个单位 单位",
}
_CANONICAL = {name: unit for unit, names in _NAMES.items() for name in names.split()}
_AREA = {"square ": "^2", "sq ": "^2", "sq. ": "^2", "平方": "^2"}
_VOLUME = {"cubic ": "^3", "cu ": "^3", "立方": "^3"}
_PREFIXES = _AREA | _VOLUME
_ALTERNATIVES = "|".join(re.escape(name) for name in sorted(_CANONICAL, key=len, reverse=True))
_PREFIX = "|".join(re.escape(prefix) for prefix in _PREFIXES)
_ONE = rf"(?:{_PREFIX})?(?:{_ALTERNATIVES})(?:\^?-?[23](?!\d))?"
_UNIT = re.compile(
    rf"(.*?(?:[^\s\\A-Za-z]|\\[A-Za-z]+))( ?)((?:{_ONE})(?: ?(?:/| per |\\cdot ?) ?(?:{_ONE}))*)",
    re.DOTALL,
)
_PART = re.compile(rf"({_PREFIX})?({_ALTERNATIVES})(?:\^?(-?[23]))?$")
_FOLLOWING = re.compile(rf" ?((?:{_ONE})(?: ?(?:/| per ) ?(?:{_ONE}))*)(?![A-Za-z])")
MAX_UNIT_TEXT = 300


def split_unit(text: str, glued: bool = False) -> tuple[str, str | None]:
    """The value and its canonical unit (None if there is none) of an answer.

    A one-letter unit must stand apart from the number: "5 m" has a unit, "5m" may be a variable;
    with `glued` it is taken for the unit.
    """
    text = plain(text)
    if len(text) > MAX_UNIT_TEXT:
        return text, None
    match = _UNIT.fullmatch(text)
    if match is None:
        return text, None
    value, space, unit = match.groups()
    if re.fullmatch("[A-Za-z]", unit) and not space and not glued:
        return text, None
    if value.endswith(("=", "+", "-", "*", ",")):
        return text, None
    return value, _canonical(unit)


def _canonical(unit: str) -> str:
    parts = re.split(r" ?(/| per |\\cdot ?) ?", unit)
    spelled = []
    for index, part in enumerate(parts):
        if index % 2:
            spelled.append("/" if part.strip() in ("/", "per") else "*")
        elif match := _PART.match(part):
            power = match[3]
            spelled.append(
                _CANONICAL[match[2]] + (f"^{power}" if power else _PREFIXES.get(match[1] or "", ""))
            )
    return "".join(spelled)


def unit_after(text: str, position: int) -> str | None:
    """The canonical unit that follows a number ending at `position`, in running text."""
    match = _FOLLOWING.match(plain(text[position : position + 60]))
    return _canonical(match[1]) if match else None


def units_agree(gold: str | None, prediction: str | None) -> bool:
    """A unit may be added or left out, but not exchanged for another one."""
    return gold is None or prediction is None or gold == prediction
