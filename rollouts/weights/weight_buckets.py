"""The learner's side of the shared-memory weight transfer: named tensors → buckets in memory.

Nothing here imports vLLM, so a learner process stays small.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...configs.errors import FileError
from ...configs.system.files import file_errors
from .weight_digest import WeightDigest

SHARED_MEMORY = Path("/dev/shm")
FILE_PREFIX = "kvl-weights-"
DEFAULT_BUCKET_BYTES = 256 * 2**20
_ALIGNMENT = 64


@dataclass(slots=True)
class _File:
    """Memory without a name in any folder: it goes when the last process that has it open ends,
    however that ends. Engines open it through /proc."""

    descriptor: int
    memory: mmap.mmap

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    @property
    def inode(self) -> int:
        return os.fstat(self.descriptor).st_ino

    def is_let_go(self) -> bool:
        """Whether no engine holds it: each has it locked for as long as a tensor lies in it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        return True

    def close(self) -> None:
        self.memory.close()
        os.close(self.descriptor)


@dataclass(slots=True)
class BucketFiles:
    """The files of one sender, kept from sync to sync: to write memory that is there already is
    many times as fast as to have the system find and clear new pages.

    Two are enough for engines that let go of a bucket when they have loaded it; for those that
    wait for the rest of a layer there are more.
    """

    directory: Path
    files: list[_File] = field(default_factory=list)
    # Its bucket was handed out last; engines may not have opened it yet.
    newest: _File | None = None

    def take(self, size: int, first: str) -> _File:
        """A file of at least `size` bytes that no engine reads; `first` is a tensor in it.

        Raises FileError when there is no room for one.
        """
        free = [file for file in self.files if file is not self.newest and file.is_let_go()]
        fitting = [file for file in free if len(file.memory) >= size]
        if not fitting:
            for file in free[:1]:  # too small for good: a larger one takes its place
                self.files.remove(file)
                file.close()
            fitting = [self._new(size, first)]
            self.files += fitting
        self.newest = fitting[0]
        return self.newest

    def _new(self, size: int, first: str) -> _File:
        with file_errors(self.directory):
            descriptor = os.open(self.directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            # fallocate, not truncate: a full /dev/shm is an error here, not a SIGBUS later.
            os.posix_fallocate(descriptor, 0, size)
            return _File(descriptor, mmap.mmap(descriptor, size))
        except OSError as error:
            os.close(descriptor)
            raise FileError(
                f"{self.directory}: no room for {size} bytes of weights ({first}, …): "
                f"{error.strerror}; make it larger (docker run --shm-size)"
            ) from error

    def close(self) -> None:
        while self.files:
            self.files.pop().close()
        self.newest = None


# Of this process, by directory.
_kept: dict[Path, BucketFiles] = {}


def weight_buckets(
    named_tensors: Iterable[tuple[str, torch.Tensor]],
    bucket_bytes: int = DEFAULT_BUCKET_BYTES,
    directory: Path = SHARED_MEMORY,
) -> Iterator[dict[str, Any]]:
    """Yield one update-info dict per bucket of tensors, for `Fleet.sync_weights`.

    A bucket has at most `bucket_bytes` (a larger tensor is a bucket alone) and is written into a
    file of this process, which has no name and is kept for later buckets and syncs. Before the
    next but one bucket is asked for, all who read this one must have called `read_bucket`; it
    lasts until they let go of its tensors.

    Example: `{"path": "/proc/71/fd/9", "inode": 12, "names": ["a.weight"], "dtype_names":
    ["float32"], "shapes": [[2, 3]], "offsets": [0], "digest": "…"}`; the digest is that of
    everything from the first bucket on.
    """
    if bucket_bytes < 1:
        raise ValueError(f"bucket_bytes must be positive, not {bucket_bytes}")
    remove_abandoned(directory)
    files = _kept.setdefault(directory, BucketFiles(directory))
    with file_errors(directory):
        free = shutil.disk_usage(directory).free + sum(len(one.memory) for one in files.files)
    # Engines may still hold two buckets while the third is written.
    bucket_bytes = max(1, min(bucket_bytes, free // 3))
    digest = WeightDigest()
    bucket: list[tuple[str, torch.Tensor]] = []
    size = 0
    for name, tensor in named_tensors:
        grown = _aligned(size) + tensor.numel() * tensor.element_size()
        if bucket and grown > bucket_bytes:
            yield _written(bucket, files, digest)
            bucket, grown = [], tensor.numel() * tensor.element_size()
        bucket.append((name, tensor))
        size = grown
    if bucket:
        yield _written(bucket, files, digest)


def remove_abandoned(directory: Path = SHARED_MEMORY) -> None:
    """Remove the buckets of killed processes of earlier versions, whose files had names."""
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


def _written(
    bucket: list[tuple[str, torch.Tensor]], files: BucketFiles, digest: WeightDigest
) -> dict[str, Any]:
    offsets: list[int] = []
    end = 0
    for _name, tensor in bucket:
        offsets.append(_aligned(end))
        end = offsets[-1] + tensor.numel() * tensor.element_size()
    file = files.take(max(end, 1), bucket[0][0])
    for (name, tensor), offset in zip(bucket, offsets, strict=True):
        target = _view(file.memory, tensor.dtype, tensor.shape, offset)
        target.copy_(tensor.detach())
        digest.add(name, target)
    return {
        "path": file.path,
        "inode": file.inode,
        "names": [name for name, _ in bucket],
        "dtype_names": [str(tensor.dtype).removeprefix("torch.") for _, tensor in bucket],
        "shapes": [list(tensor.shape) for _, tensor in bucket],
        "offsets": offsets,
        "digest": digest.value,
    }


def _view(memory: mmap.mmap, dtype: torch.dtype, shape: Iterable[int], offset: int) -> torch.Tensor:
    size = torch.Size(shape)
    if not size.numel():
        return torch.empty(size, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=size.numel(), offset=offset).view(size)


def read_bucket(info: dict[str, Any]) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a bucket as read-only views of the mapped file, not copies.

    vLLM keeps a layer's tensors until the layer is complete, which may be some buckets later: the
    file is locked, and not written again, until the last of them is gone. Raises
    FileNotFoundError if the bucket is gone, or was written on another machine.
    """
    if os.stat(info["path"]).st_ino != info["inode"]:
        raise FileNotFoundError(f"{info['path']}: no longer the bucket that was written there")
    descriptor = os.open(info["path"], os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    # A private writable mapping: torch wants writable memory and nobody writes.
    memory = mmap.mmap(descriptor, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    weakref.finalize(memory, os.close, descriptor)  # and with it the lock
    return [
        (name, _view(memory, getattr(torch, dtype_name), shape, offset))
        for name, dtype_name, shape, offset in zip(
            info["names"], info["dtype_names"], info["shapes"], info["offsets"], strict=True
        )
    ]
