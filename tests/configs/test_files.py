"""What is written is whole or absent, and a disk that refuses is one line."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from kvl.configs.errors import FileError
from kvl.configs.system.files import (
    append_lines,
    atomic_file,
    atomic_folder,
    file_errors,
    read_bytes,
    replace_folder,
    write_atomically,
    write_json,
)
from safetensors.torch import save_file

LIMIT = 100_000


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond LIMIT bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large_folder(path: Path) -> None:
    with atomic_folder(path) as folder:
        (folder / "small").write_text("1")
        save_file({"a": torch.zeros(LIMIT)}, folder / "large")


def large_torch_file(path: Path) -> None:
    with atomic_folder(path) as folder:
        torch.save({"a": torch.zeros(LIMIT)}, folder / "large")


def large_stream(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"x" * 3 * LIMIT)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_atomically(path, "x" * 2 * LIMIT),
        lambda path: write_json(path, ["x" * 2 * LIMIT]),
        lambda path: append_lines(path, ["x" * 2 * LIMIT]),
        large_stream,
        large_folder,
        large_torch_file,
    ],
)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "kept"
    if write in (large_folder, large_torch_file):
        path.mkdir()
        (path / "old").write_text("old\n")
    else:
        path.write_text("old\n")
    with full_disk(), pytest.raises(FileError) as caught:
        write(path)
    assert str(caught.value).startswith(f"{path}: cannot be written: ")
    assert "\n" not in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["kept"]
    assert ((path / "old") if path.is_dir() else path).read_text() == "old\n"


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "choose another place"),
        (errno.EIO, "err"),
    ],
)
def test_the_reason_comes_with_its_fix(tmp_path: Path, number: int, fix: str) -> None:
    path = tmp_path / "a"
    with pytest.raises(FileError, match=fix) as caught, file_errors(path):
        raise OSError(number, os.strerror(number), str(path))
    assert os.strerror(number) in str(caught.value)


def test_a_failure_about_another_file_names_that_file(tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    with pytest.raises(FileError, match=rf"^{other}: No such file"), atomic_file(tmp_path / "a"):
        other.read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_a_file_belongs_is_one_line(tmp_path: Path) -> None:
    for call in (lambda: write_atomically(tmp_path, "x"), lambda: read_bytes(tmp_path)):
        with pytest.raises(FileError, match="Is a directory"):
            call()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is a file"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(FileError, match=r"Not a directory|File exists"):
        write_atomically(tmp_path / "file" / "inside", "x")


def test_other_errors_of_the_block_pass_and_leave_nothing(tmp_path: Path) -> None:
    for opened in (atomic_file, atomic_folder):
        with pytest.raises(KeyboardInterrupt), opened(tmp_path / "a"):
            raise KeyboardInterrupt
        with pytest.raises(ZeroDivisionError), opened(tmp_path / "a"):
            _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def test_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    # No process has such a pid.
    (tmp_path / ".a[1].999999999.partial").write_text("half")
    (tmp_path / ".a[1].1.partial").write_text("of a living process")
    (tmp_path / ".b.999999999.partial").mkdir()
    write_atomically(tmp_path / "a[1]", "x")
    names = {one.name for one in tmp_path.iterdir()}
    assert names == {"a[1]", ".a[1].1.partial", ".b.999999999.partial"}


def test_lines_are_appended_whole_after_one_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lines"
    append_lines(path, [])
    assert not path.exists()
    append_lines(path, ["one", "two"])
    with path.open("a") as file:
        file.write("thr")
    append_lines(path, ["four"])
    assert path.read_text() == "one\ntwo\nthr\nfour\n"


def test_a_folder_replaces_an_older_one_or_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "out") as folder:
            (folder / content).mkdir()
    assert [one.name for one in (tmp_path / "out").iterdir()] == ["second"]
    (tmp_path / "new").mkdir()
    real = os.replace

    def refuse(source: Path, target: Path) -> None:
        if source.name == "new":
            raise OSError(errno.EIO, "broken")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(FileError):
        replace_folder(tmp_path / "new", tmp_path / "out")
    assert (tmp_path / "out" / "second").is_dir()
