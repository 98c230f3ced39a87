"""The safetensors files of a checkpoint folder: their headers, and their tensors one by one.

Read by hand, because the library maps whole files, which then count as this process's memory, and
refuses a damaged one without saying which tensor is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...configs.errors import CheckpointError
from .json_files import parse_object, read_object, shown, shown_name

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
_MAX_HEADER_BYTES = 100_000_000  # as the library has it
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
# What the format knows besides, which the model does not compute in: bits of a value.
_OTHER_DTYPES = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8"), 8),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16"), 16),
    **dict.fromkeys(("U32", "I32"), 32),
    **dict.fromkeys(("U64", "I64", "C64"), 64),
}
_BITS = {name: 8 * dtype.itemsize for name, dtype in _DTYPES.items()} | _OTHER_DTYPES


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the header of its file describes it; its data starts at byte `start`."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    def read(self) -> torch.Tensor:
        """The tensor in memory of its own. Raises CheckpointError if the file ends within it."""
        return self._read(self.shape, 0)

    def read_rows(self, rows: range) -> torch.Tensor:
        """Consecutive entries of its first dimension, and no other bytes of the file."""
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        return self._read((len(rows), *self.shape[1:]), rows.start * row_bytes)

    def _read(self, shape: tuple[int, ...], skip: int) -> torch.Tensor:
        tensor = torch.empty(shape, dtype=self.dtype)
        buffer = tensor.view(-1).view(torch.uint8).numpy()
        try:
            with self.file.open("rb") as file:
                file.seek(self.start + skip)
                held = file.readinto(buffer)  # pyright: ignore[reportArgumentType]
        except OSError as error:
            raise CheckpointError(f"{self.file}: cannot be read ({error.strerror})") from None
        if held != tensor.nbytes:
            raise CheckpointError(f"{self.file}: was cut short while it was read")
        return tensor


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor in a header: its values lie in bytes [begin, end) of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def files_of(folder: Path) -> dict[str, list[str]]:
    """File name → tensor names, from the index or from the single file."""
    index = folder / INDEX_FILE
    if index.is_file():
        files: dict[str, list[str]] = {}
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{index}: has no weight_map")
        for tensor, file in weight_map.items():
            if not _is_shard_name(file):
                raise CheckpointError(
                    f"{index}: weight_map puts tensor {shown_name(tensor)} in {shown(file)}, which "
                    "is no name of a .safetensors file beside the index"
                )
            files.setdefault(file, []).append(tensor)
        return files
    single = folder / SINGLE_FILE
    if not single.is_file():
        raise CheckpointError(f"{folder}: holds neither {INDEX_FILE} nor {SINGLE_FILE}")
    return {SINGLE_FILE: list(_header(single)[0])}


def _is_shard_name(file: object) -> bool:
    """Whether it names a file of the folder itself: an index from elsewhere opens no other."""
    if not isinstance(file, str) or not file.endswith(".safetensors") or len(file) > 255:
        return False
    return not any(character in file for character in "/\\\0")


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """(tensor name → its entry in a safetensors header, byte at which the data starts)."""
    if not path.is_file():
        raise CheckpointError(f"{path}: missing, though the index names it")
    try:
        with path.open("rb") as file:
            size, prefix = path.stat().st_size, file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or 8 + length > size:
                raise CheckpointError(
                    f"{path}: damaged or truncated inside its header, which should end at byte "
                    f"{8 + length} of {size}"
                )
            if length > _MAX_HEADER_BYTES:
                raise CheckpointError(f"{path}: damaged header (of {length} bytes)")
            text = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    entries = parse_object(text, str(path), "damaged header")
    about = entries.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(v, str) for v in about.values()):
        raise CheckpointError(f"{path}: damaged header (__metadata__ does not map text to text)")
    if not entries:
        raise CheckpointError(f"{path}: holds no tensor")
    return entries, 8 + length


def stored_tensors(folder: str | Path) -> tuple[dict[str, StoredTensor], list[str]]:
    """What the headers of a checkpoint's files say, and every problem found in them.

    Raises CheckpointError if there is no list of tensors at all.
    """
    folder, stored, problems = Path(folder), {}, []
    for file, names in files_of(folder).items():
        path = folder / file
        try:
            entries, start = _header(path)
        except CheckpointError as error:
            problems.append(f"{error} (tensor {shown_name(names[0])} and {len(names) - 1} more)")
            continue
        problems += [
            f"{path}: tensor {shown_name(n)} is missing" for n in names if n not in entries
        ]
        listed = set(names)
        problems += [
            f"{path}: tensor {shown_name(name)} is not in {INDEX_FILE}"
            for name in entries
            if name not in listed
        ]
        found, wrong = _read_entries(path, entries, start)
        problems += wrong
        stored.update({name: tensor for name, tensor in found.items() if name in listed})
    return stored, problems


def _read_entries(
    path: Path, entries: dict[str, Any], start: int
) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors of one file that can be read, and what is wrong with the others."""
    data_bytes = path.stat().st_size - start
    read: dict[str, _Entry] = {}
    problems: list[str] = []
    for name, entry in entries.items():
        try:
            read[name] = one = _read_entry(entry)
        except ValueError as error:
            problems.append(f"{path}: tensor {shown_name(name)} {error}")
            continue
        if one.end > data_bytes:
            problems.append(
                f"{path}: truncated in tensor {shown_name(name)}, which ends at byte "
                f"{start + one.end} of {start + data_bytes}"
            )
    if not problems:
        problems = [f"{path}: {gap}" for gap in _gaps(read, data_bytes)]
    problems += _unsupported(path, read)
    stored = {
        name: StoredTensor(path, _DTYPES[one.dtype], one.shape, start + one.begin)
        for name, one in read.items()
        if one.dtype in _DTYPES and one.end <= data_bytes
    }
    return stored, problems


def _read_entry(entry: Any) -> _Entry:
    """Raises ValueError, which says what is wrong."""
    if not isinstance(entry, dict):
        raise ValueError(f"is described by {shown(entry)} instead of an object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(
            "has no dtype" if dtype is None else f"has the dtype {shown(dtype)}, which is unknown"
        )
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise ValueError(
            f"has the shape {shown(shape)}, which is no list of sizes from 0 up"
            if "shape" in entry
            else "has no shape"
        )
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int for offset in offsets)
        or not 0 <= offsets[0] <= offsets[1]
    ):
        raise ValueError(
            f"has the data_offsets {shown(offsets)}, which are no [begin, end] from 0 up"
            if "data_offsets" in entry
            else "has no data_offsets"
        )
    begin, end = offsets
    if math.prod(shape) * _BITS[dtype] != 8 * (end - begin):
        raise ValueError(f"has {end - begin} bytes for {dtype} {shown(tuple(shape))}")
    return _Entry(dtype, tuple(shape), begin, end)


def _gaps(entries: dict[str, _Entry], data_bytes: int) -> Iterator[str]:
    """Where the tensors of a file do not follow each other without overlap up to its end."""
    position, before = 0, ""
    for name, one in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        name = shown_name(name)
        if one.begin < position:
            yield f"tensor {name} overlaps tensor {before}: both hold byte {one.begin} of the data"
        elif one.begin > position:
            yield f"tensor {name} starts at byte {one.begin} of the data instead of {position}"
        if one.end > position:
            position, before = one.end, name
    if position < data_bytes:
        yield f"the last {data_bytes - position} bytes belong to no tensor"


def _unsupported(path: Path, entries: dict[str, _Entry]) -> Iterator[str]:
    """Not one line a tensor: a quantized checkpoint has thousands."""
    by_dtype: dict[str, list[str]] = {}
    for name, one in entries.items():
        if one.dtype not in _DTYPES:
            by_dtype.setdefault(one.dtype, []).append(name)
    for dtype, names in by_dtype.items():
        others = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
        yield (
            f"{path}: tensor {shown_name(names[0])}{others} stored as {dtype}, a dtype that is "
            "not supported: dequantize the checkpoint to BF16, F16 or F32 first"
        )


def iterate_tensors(folder: str | Path) -> Iterator[tuple[str, torch.Tensor, Path]]:
    """(name, tensor, file) of a checkpoint, one tensor in memory at a time.

    Raises CheckpointError for the first problem found in the files.
    """
    stored, problems = stored_tensors(folder)
    raise_first(problems)
    for name, tensor in stored.items():
        yield name, tensor.read(), tensor.file


def raise_first(problems: list[str]) -> None:
    if problems:
        more = f"; {len(problems) - 1} more, see kvl-sft inspect" if len(problems) > 1 else ""
        raise CheckpointError(problems[0] + more)
