r"""The units that are known, by every spelling, as `plain` leaves it: `°C` is `^\circC`."""

from __future__ import annotations

_SPELLED = {
    "nm": "nanometer nanometers nanometre nanometres 纳米",
    "μm": "micrometer micrometers micron microns 微米",
    "mm": "millimeter millimeters millimetre millimetres 毫米",
    "cm": "cms centimeter centimeters centimetre centimetres 厘米 公分",
    "dm": "decimeter decimeters decimetre decimetres 分米",
    "m": "m meter meters metre metres 米",
    "km": "kms kilometer kilometers kilometre kilometres 千米 公里",
    "in": "inch inches 英寸",
    "ft": "ft foot feet 英尺",
    "yd": "yd yard yards 码",
    "mi": "mi mile miles 英里",
    "mg": "milligram milligrams 毫克",
    "g": "g gram grams gramme grammes 克",
    "kg": "kgs kilogram kilograms 千克 公斤",
    "t": "ton tons tonne tonnes 吨",
    "lb": "lb lbs 磅",
    "oz": "oz ounce ounces 盎司",
    "L": "L l liter liters litre litres 升",
    "mL": "milliliter milliliters millilitre millilitres 毫升",
    "gal": "gal gallon gallons 加仑",
    "ha": "ha hectare hectares 公顷",
    "ms": "msec millisecond milliseconds 毫秒",
    "s": "s sec secs second seconds 秒 秒钟",
    "min": "min mins minute minutes 分钟 分",
    "h": "h hr hrs hour hours 小时 时",
    "day": "day days 天 日",
    "week": "week weeks 周 星期",
    "month": "month months 个月 月",
    "year": "year years yr yrs 年 岁",
    "deg": r"^\circ degree degrees deg 度",
    "degC": (
        r"^\circC celsius centigrade|deg C|degree C|degrees C|degree celsius|degrees celsius"
        "|degree Celsius|degrees Celsius|deg Celsius|Celsius|摄氏度|degree centigrade"
        "|degrees centigrade"
    ),
    "degF": (
        r"^\circF|deg F|degree F|degrees F|fahrenheit|Fahrenheit|degree fahrenheit"
        "|degrees fahrenheit|degree Fahrenheit|degrees Fahrenheit|华氏度"
    ),
    "rad": "rad rads radian radians 弧度",
    "N*m": "Nm",
    "N": "N newton newtons Newton Newtons 牛 牛顿",
    "J": "J joule joules Joule Joules 焦 焦耳",
    "kJ": "kilojoule kilojoules 千焦",
    "cal": "cal calorie calories 卡",
    "kcal": "kcal kilocalorie kilocalories 千卡 大卡",
    "eV": "electronvolt electronvolts",
    "W": "W watt watts Watt Watts 瓦 瓦特",
    "kW": "kilowatt kilowatts 千瓦",
    "kWh": "kWh kilowatt-hour kilowatt-hours 千瓦时",
    "V": "V volt volts Volt Volts 伏 伏特",
    "A": "A amp amps ampere amperes Ampere Amperes 安 安培",
    "Ω": r"\Omega ohm ohms Ohm Ohms 欧 欧姆",
    "C": "C coulomb coulombs Coulomb Coulombs 库仑",
    "F": "F farad farads 法拉",
    "T": "T tesla teslas Tesla 特斯拉",
    "H": "H henry henries 亨利",
    "Wb": "Wb weber webers 韦伯",
    "Hz": "Hz hertz Hertz 赫兹 赫",
    "Pa": "pascal pascals 帕 帕斯卡",
    "atm": "atm atmosphere atmospheres",
    "bar": "bar bars",
    "K": "K kelvin kelvins Kelvin 开尔文",
    "mol": "mols mole moles 摩尔",
    "M": "mol/L",
    "mi*h^-1": "mph",
    "km*h^-1": "kph kmh kmph",
    "rev*min^-1": "rpm",
    "rev": "rev revs revolution revolutions",
    "dB": "dB decibel decibels 分贝",
    "B": "byte bytes 字节",
    "bit": "bit bits 比特",
    # Money; symbols stand before the amount as well.
    "dollar": r"\$ US\$ dollar dollars USD 美元",
    "cent": "¢ cent cents 美分",
    "euro": "€ euro euros Euro Euros EUR 欧元",
    "pound_sterling": "£ GBP 英镑",
    "pound": "pound pounds",
    "penny": "penny pence",
    "yen_or_yuan": "¥ ￥",
    "yen": "yen JPY 日元",
    "yuan": "yuan RMB CNY 元 块 块钱 人民币",
    "rupee": "₹ Rs. Rs rupee rupees Rupees INR 卢比",
    "won": "₩ won KRW 韩元",
    "ruble": "₽ ruble rubles rouble roubles RUB",
    "lira": "₺ lira TRY",
    "dong": "₫ VND",
    "peso": "₱ peso pesos PHP",
    "baht": "฿ baht THB",
    "real": r"R\$ BRL reais",
    "hong_kong_dollar": r"HK\$ HKD 港元 港币",
    "franc": "CHF francs",
    "unit": "unit units 个单位 单位",
}
# Words that count things without saying what a unit says: 5个 is 5.
MEASURE_WORDS = frozenset("个只条种本人名位次张支块颗枚棵辆件头匹朵片袋箱盒组台套双把根座")
_PREFIXED = {
    "m": "p n μ m c d k",
    "g": "n μ m k",
    "s": "p n μ m",
    "A": "n μ m k",
    "V": "μ m k M",
    "W": "μ m k M G",
    "J": "m k M G",
    "N": "m k M",
    "Pa": "h k M G",
    "Hz": "k M G T",
    "F": "p n μ m",
    "C": "n μ m",
    "T": "μ m",
    "H": "μ m",
    "eV": "k M G",
    "L": "μ m",
    "Ω": "m k M",
    "mol": "m k",
    "B": "k M G T",
}
# What a spelling that may be one of several units may mean.
MEANINGS = {
    "pound": frozenset(["pound", "lb", "pound_sterling"]),
    "yen_or_yuan": frozenset(["yen_or_yuan", "yen", "yuan"]),
    "deg": frozenset(["deg", "degC", "degF"]),
}


def _spellings() -> dict[str, str]:
    names = {}
    for unit, spelled in _SPELLED.items():
        parts = spelled.split("|")
        for name in [*parts[0].split(), *parts[1:]]:
            names[name] = unit
    for unit, prefixes in _PREFIXED.items():
        symbol = r"\Omega" if unit == "Ω" else unit
        if unit in ("Pa", "eV", "mol"):
            names[symbol] = unit
        for prefix in prefixes.split():
            names[(r"\mu " if prefix == "μ" else prefix) + symbol] = prefix + unit
    names |= {"ml": "mL", "µs": "μs", "KB": "kB"}
    return names | dict.fromkeys(MEASURE_WORDS - names.keys(), "")


# By spelling, the unit's name; "" for a word that only counts.
UNIT_OF = _spellings()
_CURRENCIES = (
    *("dollar", "cent", "euro", "pound_sterling", "yen_or_yuan", "yen", "yuan", "rupee", "won"),
    *("ruble", "lira", "dong", "peso", "baht", "real", "hong_kong_dollar", "franc"),
)
# Signs and codes of money that may stand before the amount; words do not.
MONEY = tuple(
    name
    for name, unit in UNIT_OF.items()
    if unit in _CURRENCIES and not (name.isascii() and name.islower())
)
