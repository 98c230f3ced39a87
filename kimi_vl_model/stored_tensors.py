"""The safetensors files of a checkpoint folder: their headers, and their tensors one by one.

Read by hand, because the library maps whole files, which then count as this process's memory, and
refuses a truncated one without saying which tensor is cut.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..configs.errors import CheckpointError

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor as the header of its file describes it; its data starts at byte `start`."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    def read(self) -> torch.Tensor:
        """The tensor in memory of its own."""
        return self._read(self.shape, 0)

    def read_rows(self, rows: range) -> torch.Tensor:
        """Consecutive entries of its first dimension, and no other bytes of the file."""
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        return self._read((len(rows), *self.shape[1:]), rows.start * row_bytes)

    def _read(self, shape: tuple[int, ...], skip: int) -> torch.Tensor:
        tensor = torch.empty(shape, dtype=self.dtype)
        with self.file.open("rb", buffering=0) as file:
            file.seek(self.start + skip)
            file.readinto(tensor.view(-1).view(torch.uint8).numpy())  # pyright: ignore
        return tensor


def read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not even text
        raise CheckpointError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return value


def files_of(folder: Path) -> dict[str, list[str]]:
    """File name → tensor names, from the index or from the single file."""
    index = folder / INDEX_FILE
    if index.is_file():
        files: dict[str, list[str]] = {}
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index}: has no weight_map")
        for tensor, file in weight_map.items():
            files.setdefault(file, []).append(tensor)
        return files
    single = folder / SINGLE_FILE
    if not single.is_file():
        raise CheckpointError(f"{folder}: holds neither {INDEX_FILE} nor {SINGLE_FILE}")
    return {SINGLE_FILE: list(_header(single)[0])}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """(tensor name → its entry in a safetensors header, byte at which the data starts)."""
    if not path.is_file():
        raise CheckpointError(f"{path}: missing, though the index names it")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise CheckpointError(f"{path}: damaged or truncated inside its header")
        try:
            entries = dict(json.loads(file.read(length)))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: damaged header ({error})") from error
    entries.pop("__metadata__", None)
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
            problems.append(f"{error} (tensor {names[0]} and {len(names) - 1} more)")
            continue
        size = path.stat().st_size
        problems += [f"{path}: tensor {n} is missing" for n in names if n not in entries]
        listed = set(names)
        for name, entry in entries.items():
            dtype, shape = _DTYPES.get(entry["dtype"]), tuple(entry["shape"])
            begin, end = (start + offset for offset in entry["data_offsets"])
            if name not in listed:
                problems.append(f"{path}: tensor {name} is not in {INDEX_FILE}")
            elif end > size:
                problems.append(
                    f"{path}: truncated in tensor {name}, which ends at byte {end} of {size}"
                )
            elif dtype is None or math.prod(shape) * dtype.itemsize != end - begin:
                problems.append(
                    f"{path}: tensor {name} has {end - begin} bytes for {entry['dtype']} {shape}"
                )
            else:
                stored[name] = StoredTensor(path, dtype, shape, begin)
    return stored, problems


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
