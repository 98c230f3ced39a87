"""Times of day: 8:30, 08:30, 8:30 p.m., 20:30, half past eight. Never ratios.

A ratio has no leading zero, and its second number is rarely one of 00 to 59 in two digits: what is
written that way is a time, and only the same time equals it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .reading.number_words import number_of_words

_HALF = r"(?P<half>[ap])\.?"
_MERIDIEM = rf"{_HALF}\s?m\b\.?"
_DIGITAL = re.compile(
    rf"(?P<hour>\d{{1,2}})(?:\s?:\s?(?P<minute>[0-5]\d)(?:\s?:\s?(?P<second>[0-5]\d))?)"
    rf"(?:\s?{_HALF}(?:\s?m)?\b\.?|\s?o'?clock)?(?![\d:])",
    re.IGNORECASE,
)
_NUMBER = r"(?:\d{1,2}|[a-z]+(?:-[a-z]+)?)"
_HOUR = rf"(?P<hour>{_NUMBER})"
_SPOKEN = re.compile(
    rf"(?:(?P<part>half|(?:a\s)?quarter|{_NUMBER}(?:\sminutes?)?)\s(?P<side>past|after|to|before)\s)?"
    rf"{_HOUR}(?:\s?o'?clock)?(?:\s?{_MERIDIEM}|\sin\sthe\s(?P<day>morning|afternoon|evening))?",
    re.IGNORECASE,
)
_CHINESE = re.compile(
    r"(?P<day>上午|下午|晚上|早上|凌晨)?(?P<hour>\d{1,2})点(?:(?P<minute>\d{1,2})分?|(?P<half>半)|整)?"
)
_NAMED = {"noon": "p", "midday": "p", "midnight": "a"}
_CHINESE_HALF = {"上午": "a", "早上": "a", "凌晨": "a", "下午": "p", "晚上": "p"}
_LEAD = re.compile(
    r"(?:it\s(?:is|was)|it's|the\s(?:time|clock)\s(?:is|shows|reads|says)|at|about|time:?)\s+"
    r"(?:now\s|exactly\s)?",
    re.IGNORECASE,
)
_TYPESETTING = re.compile(r"\\(?:text|mathrm|textbf|mathbf)|\\[,;:! ]|[{}$*~]")
_HINT = re.compile(
    r":|：|点|noon|midday|midnight|o.?clock|\b(?:past|to|[ap]\.?\s?m)\b|\d[ap]m\b", re.IGNORECASE
)
MAX_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds from midnight, or from the last noon or midnight where `half` is open.

    Example: "8:30 p.m." is `Time(73800, half="p", said=True)`; "8:30" is `Time(30600, half=None)`;
    20:30 and 0:15 have their half without saying it.
    """

    seconds: int
    half: str | None
    said: bool = False

    def accepts(self, answer: Time, lenient: bool = False) -> bool:
        """Whether `answer` is this time; `lenient` lets a.m. and p.m. be added or left out."""
        left_out = (self.half is None and answer.said) or (answer.half is None and self.said)
        if self.half != answer.half and not (lenient and left_out):
            return False
        return self.seconds % 43200 == answer.seconds % 43200


def parse_time(text: str) -> Time | None:
    """The time of day that is the whole of `text`, however it is said; None if it is none."""
    text = _clean(text)
    if len(text) > MAX_CHARACTERS:
        return None
    text = _LEAD.sub("", text, count=1).rstrip(" .")
    if match := _DIGITAL.fullmatch(text) or _DIGITAL.fullmatch(text + "."):
        return _digital(match)
    if match := _CHINESE.fullmatch(text):
        minute = 30 if match["half"] else int(match["minute"] or 0)
        return _time(int(match["hour"]), minute, 0, _CHINESE_HALF.get(match["day"] or ""))
    return _spoken(text)


def clock_times_agree(gold: str, prediction: str, lenient: bool) -> bool | None:
    """Whether two times of day are the same; None if the gold answer is no time of day.

    `lenient` finds the one time in a sentence as well.
    """
    if not _HINT.search(gold) or (wanted := parse_time(gold)) is None:
        return None
    said = parse_time(prediction)
    if said is None and lenient and len(found := set(times(prediction))) == 1:
        (said,) = found
    return said is not None and wanted.accepts(said, lenient)


def times(text: str) -> list[Time]:
    """Every time written in digits in a sentence."""
    found = [_digital(match) for match in _DIGITAL.finditer(_clean(text))]
    return [time for time in found if time is not None]


def _clean(text: str) -> str:
    text = _TYPESETTING.sub(" ", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return re.sub(r"\s+", " ", text.replace("：", ":")).strip()


def _digital(match: re.Match[str]) -> Time | None:
    second = int(match["second"] or 0)
    return _time(int(match["hour"]), int(match["minute"]), second, match["half"])


def _spoken(text: str) -> Time | None:
    """ "half past eight", "noon", "quarter to 9", "8 o'clock", "8 pm"; a bare number is no time."""
    if text.casefold() in _NAMED:
        return _time(12, 0, 0, _NAMED[text.casefold()])
    match = _SPOKEN.fullmatch(text)
    if match is None or (hour := _small(match["hour"])) is None:
        return None
    half = match["half"] or ({"morning": "a"}.get(match["day"], "p") if match["day"] else None)
    if match["part"] is None:
        named = half or re.search(r"o'?clock", text, re.IGNORECASE)
        return _time(hour, 0, 0, half) if named else None
    part = match["part"].casefold()
    minutes = 30 if part == "half" else 15 if part.endswith("quarter") else None
    if minutes is None:
        minutes = _small(part.split()[0])
    if minutes is None or not 0 < minutes < 60:
        return None
    if match["side"].casefold() in ("to", "before"):
        hour, minutes = (hour - 2) % 12 + 1, 60 - minutes
    return _time(hour, minutes, 0, half)


def _small(text: str) -> int | None:
    return int(text) if text.isdigit() else number_of_words(text)


def _time(hour: int, minute: int, second: int, half: str | None) -> Time | None:
    if hour > 24 or minute > 59:
        return None
    said = half is not None
    if half:
        if hour > 12 or hour == 0:
            half = "p" if 12 <= hour < 24 else "a"
        half = half.casefold()
        hour = hour % 12 + (12 if half == "p" else 0)
    elif hour > 12 or hour == 0:
        half, hour = ("a" if hour in (0, 24) else "p"), hour % 24
    return Time(3600 * hour + 60 * minute + second, half, said)
