"""JSON that may lie: config files and safetensors headers, read without a surprise left for later.

Python's reader takes NaN, infinities, keys given twice and half a surrogate pair, none of which
the other readers of a checkpoint take, and ends in a RecursionError on deep nesting.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ...configs.errors import CheckpointError

MAX_FILE_BYTES = 10**8
_MAX_DEPTH = 32
_SHOWN_CHARACTERS = 80


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises CheckpointError naming the file and what is wrong."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CheckpointError(f"{path}: has {size} bytes, no file of a checkpoint's settings")
        text = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_object(text, str(path), "not valid JSON")


def parse_object(text: bytes, place: str, wrong: str) -> dict[str, Any]:
    """Raises CheckpointError `place: wrong (why)`."""
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_without_repeats,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        _check_depth_and_text(value)
    except RecursionError:
        raise CheckpointError(f"{place}: {wrong} (nested too deeply)") from None
    except ValueError as error:
        raise CheckpointError(f"{place}: {wrong} ({error})") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{place}: not a JSON object")
    return value


def shown(value: object) -> str:
    """A value for a message: on one line, and short whatever it holds."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def shown_name(name: str) -> str:
    """A tensor's or file's name for a message: as it is, unless that would spoil the line."""
    return name if name.isprintable() and len(name) <= 2 * _SHOWN_CHARACTERS else shown(name)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    held = dict(pairs)
    if len(held) != len(pairs):
        seen: set[str] = set()
        for key, _value in pairs:
            if key in seen:
                raise ValueError(f"key {shown_name(key)} is given twice")
            seen.add(key)
    return held


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {shown_name(text)} is too large")
    return number


def _check_depth_and_text(value: Any) -> None:
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, str):
            item.encode("utf-8")  # a lone surrogate raises here, and not where it is printed
        if not isinstance(item, dict | list):
            continue
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")
        inner = [*item.keys(), *item.values()] if isinstance(item, dict) else item
        waiting.extend((one, depth + 1) for one in inner)
