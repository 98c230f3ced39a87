"""The learner's side of the shared-memory weight transfer: named tensors → files of one bucket.

Nothing here imports vLLM, so a learner process stays small.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from ..configs.errors import FileError
from ..configs.files import file_errors

SHARED_MEMORY = Path("/dev/shm")
FILE_PREFIX = "kvl-weights-"
DEFAULT_BUCKET_BYTES = 256 * 2**20
_ALIGNMENT = 64


def weight_buckets(
    named_tensors: Iterable[tuple[str, torch.Tensor]],
    bucket_bytes: int = DEFAULT_BUCKET_BYTES,
    directory: Path = SHARED_MEMORY,
) -> Iterator[dict[str, Any]]:
    """Yield one update-info dict per bucket of tensors, for `Fleet.sync_weights`.

    Each bucket is a file of its own, at most `bucket_bytes` large (a larger tensor is a bucket
    alone), removed as soon as the next bucket is asked for, the iterator is closed, or anything
    raises. Engines may hold a bucket mapped for longer; its pages live until they let go.

    Example: `{"path": "/dev/shm/kvl-weights-x1", "names": ["a.weight"], "dtype_names":
    ["float32"], "shapes": [[2, 3]], "offsets": [0]}`.
    """
    if bucket_bytes < 1:
        raise ValueError(f"bucket_bytes must be positive, not {bucket_bytes}")
    remove_abandoned(directory)
    with file_errors(directory):
        free = shutil.disk_usage(directory).free
    # Engines may still hold two buckets mapped while the third is written.
    bucket_bytes = max(1, min(bucket_bytes, free // 3))
    bucket: list[tuple[str, torch.Tensor]] = []
    size = 0
    for name, tensor in named_tensors:
        grown = _aligned(size) + tensor.numel() * tensor.element_size()
        if bucket and grown > bucket_bytes:
            yield from _one_bucket(bucket, directory)
            bucket, grown = [], tensor.numel() * tensor.element_size()
        bucket.append((name, tensor))
        size = grown
    if bucket:
        yield from _one_bucket(bucket, directory)


def remove_abandoned(directory: Path = SHARED_MEMORY) -> None:
    """Remove the buckets of processes that were killed before they could do it themselves."""
    for path in directory.glob(f"{FILE_PREFIX}*"):
        owner = path.name.removeprefix(FILE_PREFIX).partition("-")[0]
        if owner.isdigit() and not _lives(Path("/proc", owner, "stat")):
            path.unlink(missing_ok=True)


def _lives(stat: Path) -> bool:
    """Whether the process is there and is not a zombie, which nobody in a container may bury."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _one_bucket(
    bucket: list[tuple[str, torch.Tensor]], directory: Path
) -> Iterator[dict[str, Any]]:
    offsets: list[int] = []
    end = 0
    for _name, tensor in bucket:
        offsets.append(_aligned(end))
        end = offsets[-1] + tensor.numel() * tensor.element_size()
    with file_errors(directory):
        descriptor, path = tempfile.mkstemp(prefix=f"{FILE_PREFIX}{os.getpid()}-", dir=directory)
    try:
        try:
            # fallocate, not truncate: a full /dev/shm is an error here, not a SIGBUS later.
            try:
                os.posix_fallocate(descriptor, 0, max(end, 1))
            except OSError as error:
                raise FileError(
                    f"{directory}: no room for {end} bytes of weights ({bucket[0][0]}, …): "
                    f"{error.strerror}; make it larger (docker run --shm-size)"
                ) from error
            with mmap.mmap(descriptor, max(end, 1)) as memory:
                for (_name, tensor), offset in zip(bucket, offsets, strict=True):
                    _write(memory, offset, tensor)
        finally:
            os.close(descriptor)
        yield {
            "path": path,
            "names": [name for name, _ in bucket],
            "dtype_names": [str(tensor.dtype).removeprefix("torch.") for _, tensor in bucket],
            "shapes": [list(tensor.shape) for _, tensor in bucket],
            "offsets": offsets,
        }
    finally:
        Path(path).unlink(missing_ok=True)


def _write(memory: mmap.mmap, offset: int, tensor: torch.Tensor) -> None:
    count = tensor.numel()
    if not count:
        return
    target = torch.frombuffer(memory, dtype=tensor.dtype, count=count, offset=offset)
    target.copy_(tensor.detach().reshape(-1))


def read_bucket(info: dict[str, Any]) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a bucket as read-only views of the mapped file, not copies.

    The mapping outlives the file: vLLM keeps a layer's tensors until the layer is complete,
    which may be some buckets later. Raises FileNotFoundError if the bucket is already gone.
    """
    with open(info["path"], "rb") as file:
        # A private writable mapping: torch wants writable memory and nobody writes.
        memory = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    tensors: list[tuple[str, torch.Tensor]] = []
    for name, dtype_name, shape, offset in zip(
        info["names"], info["dtype_names"], info["shapes"], info["offsets"], strict=True
    ):
        dtype = getattr(torch, dtype_name)
        count = int(torch.Size(shape).numel())
        flat = (
            torch.frombuffer(memory, dtype=dtype, count=count, offset=offset)
            if count
            else torch.empty(0, dtype=dtype)
        )
        tensors.append((name, flat.view(shape)))
    return tensors
