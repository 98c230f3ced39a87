"""`metrics.jsonl`, and reading JSON lines that a kill may have cut short."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..configs.errors import KVLError
from ..configs.system.files import append_lines, read_bytes, write_atomically

Record = dict[str, Any]


class MetricsFile:
    """One JSON object per line, in the order of its `counter`: `step` or `iteration`.

    Every line is on disk when `append` returns. Raises FileError where it cannot be.
    """

    def __init__(self, path: Path, counter: Literal["step", "iteration"]) -> None:
        self.path = path
        self.counter = counter

    def append(self, record: Mapping[str, Any]) -> Record:
        """Write a record and return it as written: a number that is not finite is null, because
        JSON has no NaN."""
        written = {name: _finite(value) for name, value in record.items()}
        append_lines(self.path, [json.dumps(written, allow_nan=False)])
        return written

    def read(self) -> list[Record]:
        """The readable records."""
        return [line for line in read_lines(self.path) if isinstance(line.get(self.counter), int)]

    def continue_after(self, last: int) -> list[Record]:
        """Drop the lines after `last`, which will be written again; returns what is left.

        A last line that a kill cut short is dropped too. Raises KVLError for any other line that
        is no record: writing the file anew would lose it.
        """
        if not self.path.exists():
            return []
        kept: list[Record] = []
        *lines, _cut_short = read_bytes(self.path).split(b"\n")
        for number, line in enumerate(lines, start=1):
            record = _record(line)
            count = None if record is None else record.get(self.counter)
            if record is None or not isinstance(count, int):
                raise KVLError(
                    f"{self.path}:{number}: is no record of a {self.counter}; mend that line, or "
                    "move the file away to go on without what it holds"
                )
            if count <= last:
                kept.append(record)
        write_atomically(self.path, "".join(f"{json.dumps(record)}\n" for record in kept))
        return kept


def read_records(path: Path) -> list[Record]:
    """The iterations in a metrics.jsonl."""
    return MetricsFile(path, "iteration").read()


def read_lines(path: Path) -> list[Record]:
    """The readable records of a JSONL file, without a line that a kill cut short."""
    # Not splitlines: model text may hold other line separators than \n.
    lines = read_bytes(path).split(b"\n") if path.exists() else []
    return [record for line in lines if (record := _record(line)) is not None]


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _finite(value: Any) -> Any:
    """What JSON can hold, also of a NumPy or one-element torch value."""
    if value is None or isinstance(value, int | str):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
