"""Lines of bytes → records, whatever the bytes are: each is an object with an id, or a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from .types import id_fault, one_line

MAX_LINE_BYTES = 2**24
MAX_DEPTH = 64  # of objects and lists in each other: what is read can be written again

Record = dict[str, Any]


class BadLine(ValueError):
    """A line that holds no record; the message says why."""


def lines_of(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that hold something, with their numbers. A longer one than `MAX_LINE_BYTES` is
    cut right behind them, so that it is known as such."""
    number = 0
    while whole := file.readline(MAX_LINE_BYTES + 1):
        rest = whole
        while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
            rest = file.readline(MAX_LINE_BYTES + 1)
        # JSON has no carriage return inside of a text: it is one only where it ends a line.
        for line in [whole] if len(whole) > MAX_LINE_BYTES else whole.rstrip().split(b"\r"):
            number += 1
            if line.strip():
                yield number, line


def parsed(line: bytes) -> Record:
    """The record of a line. Raises `BadLine` if it has none, or no id."""
    record = object_of(line)
    if not id_of(record):
        raise BadLine("is not a record with an id")
    if fault := id_fault(id_of(record)):
        raise BadLine(f"has no usable id: {fault}")
    return record


def object_of(line: bytes) -> Record:
    """The object of a line, with an id or without. Raises `BadLine` if it holds none."""
    if len(line) > MAX_LINE_BYTES:
        raise BadLine(f"is longer than {MAX_LINE_BYTES // 2**20} MiB")
    try:
        record = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise BadLine(f"is not UTF-8 ({error.reason} at byte {error.start})") from None
    except BadLine:
        raise
    except ValueError as error:
        raise BadLine(f"is not JSON ({one_line(str(error))})") from None
    except (RecursionError, MemoryError):
        raise BadLine("is nested too deeply") from None
    if not isinstance(record, dict):
        raise BadLine("is not a record")
    if _is_deep(record):
        raise BadLine("is nested too deeply")
    return record


def _unique(pairs: list[tuple[str, Any]]) -> Record:
    """An object whose keys differ: of two answers, none is known to be the right one."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadLine(f"names {one_line(twice)!r} twice")
    return made


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return bool(level)


def id_of(record: Record) -> str:
    """The id as text; integers are taken too, anything else counts as none."""
    value = record.get("id")
    return str(value).strip() if isinstance(value, str) or type(value) is int else ""
