"""Files and folders that are whole or absent, and one line when a disk says no.

Everything that a command leaves behind is written here: under a hidden name beside its place,
flushed to disk, and renamed when it is complete, so that a kill or a power cut at any moment leaves
the old version or the new one. A failure leaves nothing of the new one. Every OSError on the way
becomes a `FileError`, which names the path and the reason.

What a kill leaves under a hidden name goes when the same file is written next.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import FileError, file_system_reason

# Some file systems cannot flush a folder; their renames are as safe as they get.
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}


@contextmanager
def file_errors(path: Path, doing: str = "written") -> Iterator[None]:
    """A failure of the file system inside the block becomes a `FileError` about `path`, or about
    the file that it names, if that is another one."""
    try:
        yield
    except Exception as error:
        reason = file_system_reason(error)
        if reason is None:
            raise
        named = getattr(error, "filename", None)
        if isinstance(named, str) and not _belongs_to(Path(named), path):
            raise FileError(f"{named}: {reason}") from error
        raise FileError(f"{path}: cannot be {doing}: {reason}") from error


def _belongs_to(named: Path, path: Path) -> bool:
    """Whether it is the path, its hidden version, or something inside one of the two."""
    if named.absolute() in (path.absolute(), path.parent.absolute()):
        return True
    ours = (path.absolute(), path.absolute().with_name(f".{path.name}"))
    return str(named.absolute()).startswith(tuple(map(str, ours)))


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file, or make it and its folders. Text is written as UTF-8.

    Raises FileError; then nothing has changed.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_file(path) as file:
        file.write(data)


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """`write_atomically` of a JSON value. Raises ValueError for a NaN, which JSON has not."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_atomically(path, text + "\n")


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write piece by piece; it takes its place at `path` when the block ends well.

    Errors of the block that are not the file system's pass as they are. Raises FileError.
    """
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = _hidden(path)
        try:
            with hidden.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(hidden, path)
            _flush_folder(path.parent)
        except BaseException:
            with suppress(OSError):
                hidden.unlink()
            raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the place of `path` when the block ends well.

    Errors of the block that are not the file system's pass as they are. Raises FileError.
    """
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = _hidden(path)
        hidden.mkdir()
        try:
            yield hidden
            replace_folder(hidden, path)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise


def replace_folder(filled: Path, path: Path) -> None:
    """Flush a finished folder to disk and rename it to `path`, over an older one if there is one.

    Raises FileError, and then the older one is back in its place.
    """
    with file_errors(path):
        if path.exists() and not path.is_dir():
            raise FileError(f"{path}: is a file, where a folder has to be written")
        for file in filled.rglob("*"):
            if file.is_file():
                _flush_file(file)
        for folder in (filled, *(inner for inner in filled.rglob("*") if inner.is_dir())):
            _flush_folder(folder)
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        replaces = path.exists()
        if replaces:
            os.replace(path, old)
        try:
            os.replace(filled, path)
        except OSError:
            if replaces:
                os.replace(old, path)
            raise
        _flush_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Add whole lines, given without their ends, to a file and flush them to disk.

    A line that a kill cut short stays a line of its own. Raises FileError, and then the file ends
    as it ended before.
    """
    data = "".join(f"{line}\n" for line in lines).encode("utf-8")
    if not data:
        return
    with file_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    data = b"\n" + data
            try:
                _write_all(file.fileno(), data)
                os.fsync(file.fileno())
            except BaseException:
                with suppress(OSError):
                    file.truncate(end)
                raise


def read_bytes(path: Path) -> bytes:
    """All of a file. Raises FileError where it cannot be read."""
    with file_errors(path, "read"):
        return path.read_bytes()


def remove_unfinished(folder: Path) -> None:
    """Remove what earlier processes that were killed left under hidden names in a folder."""
    with file_errors(folder):
        for path in folder.glob(".*.partial") if folder.is_dir() else ():
            _remove(path)


def _hidden(path: Path) -> Path:
    """A name that no other living process of this machine uses for `path`, and that is free.

    Those of dead processes go.
    """
    for left in path.parent.glob(f".{_escaped(path.name)}.*.partial"):
        owner = left.name.split(".")[-2]
        if owner == str(os.getpid()) or not _lives(owner):
            _remove(left)
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _lives(pid: str) -> bool:
    return pid.isdigit() and Path("/proc", pid).exists()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _flush_file(path: Path) -> None:
    """So that a rename cannot survive a power cut that the data did not."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(path: Path) -> None:
    try:
        _flush_file(path)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
