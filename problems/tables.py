"""Files of rows, whatever their format: their columns and, one by one, their rows.

JSON and TSV are read as they are written: a table needs one type for each column, and what people
have does not keep to that. Parquet and Arrow are read a batch at a time, pictures undecoded.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from . import pictures
from .json_lines import BadLine, lines_of, object_of
from .types import ProblemError, one_line

_PEEK = 100  # rows whose keys are a JSON file's columns
_MAX_JSON = 2**31
_BATCH = 64
_MARKERS = ("dataset_info.json", "dataset_dict.json")

Row = dict[str, Any]


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk` of the datasets library."""
    return any((folder / name).is_file() for name in _MARKERS)


def columns_of(path: Path) -> tuple[str, ...]:
    """The columns of a file; of JSON, the keys of its first rows.

    Raises `ProblemError` if it cannot be read or has two columns of one name.
    """
    if path.suffix.lower() in (".jsonl", ".json"):
        firsts = (row for _, row in islice(rows_of(path), _PEEK) if isinstance(row, dict))
        return tuple(dict.fromkeys(key for row in firsts for key in row))
    if path.suffix.lower() == ".tsv":
        names = next(_tsv(path), [])
    else:
        names = next((batch.schema.names for batch in _batches(path)), [])
    if twice := [name for name in names if names.count(name) > 1]:
        raise ProblemError(f"{path}: two columns are named {one_line(twice[0])!r}; rename one")
    return tuple(names)


def rows_of(path: Path) -> Iterator[tuple[int, Row | str]]:
    """Every row with its number (a line's in JSON lines, else from 1), or why it is none.

    Raises `ProblemError` if the file cannot be read.
    """
    kind = path.suffix.lower()
    try:
        if kind == ".jsonl":
            yield from _json_lines(path)
        elif kind == ".json":
            yield from enumerate(_json(path), start=1)
        elif kind == ".tsv":
            yield from _tsv_rows(path)
        else:
            rows = (row for batch in _batches(path) for row in _rows_of_batch(batch))
            yield from enumerate(rows, start=1)
    except OSError as error:
        raise ProblemError(f"{path}: cannot be read ({error.strerror or error})") from error


def _json_lines(path: Path) -> Iterator[tuple[int, Row | str]]:
    with path.open("rb") as file:
        for number, line in lines_of(file):
            try:
                yield number, object_of(line)
            except BadLine as error:
                yield number, f"line {number} {error}"


def _json(path: Path) -> Iterator[Row | str]:
    """The objects of a list, of an object's one list, or of an object that names them by id."""
    if path.stat().st_size > _MAX_JSON:
        raise ProblemError(f"{path}: is larger than {_MAX_JSON // 2**30} GiB; write it as .jsonl")
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError, MemoryError) as error:
        reason = one_line(str(error)) or "nested too deeply"
        raise ProblemError(f"{path}: is not JSON ({reason}); are these lines of .jsonl?") from None
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
        data = lists[0] if len(lists) == 1 else _named_by_id(data)
    if not isinstance(data, list):
        raise ProblemError(f"{path}: is no list of objects")
    for row in data:
        yield row if isinstance(row, dict) else "is not an object"


def _named_by_id(data: Row) -> list[Any] | None:
    """MathVista's file: the rows by their ids."""
    if not all(isinstance(value, dict) for value in data.values()):
        return None
    return [{"id": key, **value} for key, value in data.items()]


def _tsv(path: Path) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), 2 * pictures.MAX_FILE_BYTES))
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            yield from csv.reader(file, delimiter="\t")
    except csv.Error as error:
        raise ProblemError(f"{path}: is not TSV ({one_line(str(error))})") from None


def _tsv_rows(path: Path) -> Iterator[tuple[int, Row | str]]:
    lines = _tsv(path)
    names = next(lines, [])
    for number, cells in enumerate((line for line in lines if line), start=1):
        if len(cells) > len(names):
            yield number, f"has {len(cells)} cells, the first line names {len(names)}"
        else:
            yield number, dict(zip(names, cells, strict=False))


def _batches(path: Path) -> Iterator[Any]:
    """Record batches of a parquet file, an Arrow file or a saved dataset, one empty at least."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.is_dir():
            yield from _saved(path)
        elif path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as table:
                yield pa.RecordBatch.from_pylist([], table.schema_arrow)
                yield from table.iter_batches(batch_size=_BATCH)
        else:
            with pa.memory_map(str(path)) as source:
                reader = _arrow_reader(source)
                yield pa.RecordBatch.from_pylist([], reader.schema)
                yield from reader
    except (OSError, pa.ArrowException) as error:
        kind = path.suffix.lower().lstrip(".") or "dataset"
        reason = one_line(str(error))
        raise ProblemError(f"{path}: cannot be read as {kind} ({reason})") from error


def _arrow_reader(source: Any) -> Any:
    """Of the stream format, as the datasets library writes it, or else of the file format."""
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        file = pa.ipc.open_file(source)
        batches = (file.get_batch(number) for number in range(file.num_record_batches))
        return pa.RecordBatchReader.from_batches(file.schema, batches)


def _saved(folder: Path) -> Iterable[Any]:
    import datasets
    import pyarrow as pa

    try:
        saved = datasets.load_from_disk(str(folder))
    except (ValueError, KeyError, TypeError) as error:
        raise ProblemError(f"{folder}: is no saved dataset ({one_line(str(error))})") from None
    if isinstance(saved, datasets.DatasetDict):
        if len(saved) != 1:
            names = ", ".join(map(str, saved))
            raise ProblemError(f"{folder}: holds {names}; give one of them, {folder}/SPLIT")
        saved = next(iter(saved.values()))
    yield pa.RecordBatch.from_pylist([], saved.features.arrow_schema)
    tables: Any = saved.with_format("arrow").iter(batch_size=_BATCH)
    for table in tables:
        yield from table.to_batches()


def _rows_of_batch(batch: Any) -> Iterator[Row | str]:
    for index in range(batch.num_rows):
        try:
            (row,) = batch.slice(index, 1).to_pylist()
            yield row
        except UnicodeDecodeError as error:
            yield f"a text is not UTF-8 ({error.reason})"
        except (ValueError, OverflowError) as error:  # a date that Python has no type for
            yield f"a cell cannot be read ({one_line(str(error))})"
