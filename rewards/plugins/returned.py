"""What a plugin may return: checked here, in its own process, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set, Sized
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from math import inf, isfinite
from numbers import Real
from typing import Any

from ..types import Outcome, Verdict

# Advantages reach the learner in float32, whose seven digits just keep a tenth of a right answer's
# 1 beside this. Larger values are mistakes: times in nanoseconds, token ids, overflows.
LARGEST_VALUE = 1e6
_SHOWN_CHARACTERS = 60
_TIMES = ("m", "M")  # numpy's kinds of durations, which it counts among its integers, and dates


class NotAReward(ValueError):
    """A returned value that cannot be a reward; the message says what it is."""


@dataclass(frozen=True, slots=True)
class Crash:
    """What a plugin did instead of giving a value, in one line."""

    reason: str
    timed_out: bool = False


Value = float | Verdict


def number_of(value: Any) -> float:
    """The finite real number that `value` is, as a float.

    Numbers are int, float, bool, Decimal, Fraction and whatever else is a `numbers.Real`, and
    numpy's or torch's arrays without dimensions that hold one. Raises `NotAReward` for anything
    else: text, None, complex numbers, NaN, infinities, and magnitudes above `LARGEST_VALUE`.
    """
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind not in _TIMES and getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if kind in _TIMES or not isinstance(value, Real | Decimal):
        raise NotAReward(f"{shown(value)}, not a finite number or a Verdict")
    try:
        number = float(value)
    except (OverflowError, ValueError):  # more than a float holds, a signalling NaN
        number = inf
    if not isfinite(number):
        raise NotAReward(f"{shown(value)}, not a finite number or a Verdict")
    if abs(number) > LARGEST_VALUE:
        raise NotAReward(f"{shown(value)}, which is beyond ±{LARGEST_VALUE:g}")
    return number


def value_of(value: Any) -> Value:
    """The number or the Verdict that a plugin returned for one sample, in plain types.

    Of a Verdict the outcome, the parts and the reason are kept. Raises `NotAReward`.
    """
    if not isinstance(value, Verdict):
        return number_of(value)
    try:
        outcome = Outcome(value.outcome)
    except ValueError:
        known = ", ".join(Outcome)
        raise NotAReward(
            f"a Verdict with the outcome {shown(value.outcome)}; outcomes are {known}"
        ) from None
    if not isinstance(value.reason, str):
        raise NotAReward(f"a Verdict with the reason {shown(value.reason)}, which is no text")
    if not isinstance(value.extracted, str | None):
        raise NotAReward(f"a Verdict with the answer {shown(value.extracted)}, which is no text")
    if not isinstance(value.parts, Mapping):
        raise NotAReward(f"a Verdict with the parts {shown(value.parts)}, which are no mapping")
    parts = {}
    for name, part in value.parts.items():
        if not isinstance(name, str):
            raise NotAReward(f"a Verdict with a part named {shown(name)}, which is no text")
        try:
            parts[one_line(name)] = number_of(part)
        except NotAReward as error:
            raise NotAReward(f"a Verdict whose part {one_line(name)!r} is {error}") from None
    number_of(sum(parts.values()))
    return Verdict(outcome, parts=parts, reason=one_line(value.reason))


def checked(value: Any) -> Value | Crash:
    """`value_of`, with anything that goes wrong as a `Crash`: a plugin's own types run code too."""
    try:
        return value_of(value)
    except NotAReward as error:
        return Crash(f"returned {error}")
    except BaseException as error:
        return Crash(f"returned {type(value).__name__}, which raises {type(error).__name__}")


def checked_batch(values: Any, size: int) -> list[Value | Crash]:
    """One result for each of a batch's `size` samples, all of them a `Crash` if the values cannot
    be told apart by their order or are too many or too few."""
    # A mapping's keys and a text's characters would pass as values, a set has no order.
    if isinstance(values, Mapping | Set | str | bytes) or not isinstance(values, Iterable):
        crash = Crash(f"returned {type(values).__name__}, not a list with a value per sample")
        return [crash] * size
    try:
        listed = list(islice(values, size + 1))
        if len(listed) != size:
            count = len(values) if isinstance(values, Sized) else len(listed)
            more = "at least " if count > size and not isinstance(values, Sized) else ""
            return [Crash(f"returned {more}{count} values for {size} samples")] * size
    except BaseException as error:
        return [Crash(f"returned {type(values).__name__}, which raises {described(error)}")] * size
    return [checked(value) for value in listed]


def contribution(value: Value) -> float:
    """What a value adds to the reward before its weight."""
    if isinstance(value, Verdict):
        return value.reward if value.parts else value.accuracy
    return value


def described(error: BaseException) -> str:
    """An error in one line, even if it cannot be turned into text."""
    try:
        text = one_line(str(error))
    except BaseException:
        text = "its text raises an error"
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def shown(value: Any) -> str:
    """A short form of any value in one line, even if it cannot be turned into text."""
    if isinstance(value, int) and abs(value) > LARGEST_VALUE:
        return f"an integer of {value.bit_length()} bits"  # long ones have no decimal form
    try:
        text = one_line(repr(value)[:_SHOWN_CHARACTERS])
    except BaseException:
        return f"a {type(value).__name__}"
    return f"{text} ({type(value).__name__})" if text != "None" else text


def one_line(text: str) -> str:
    """Text that any file and terminal takes: no line breaks, no half surrogate pairs."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
