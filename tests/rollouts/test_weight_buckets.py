"""The bucket writer and reader, without an engine."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kvl.configs.errors import FileError
from kvl.rollouts.weight_buckets import FILE_PREFIX, read_bucket, remove_abandoned, weight_buckets


def some_tensors() -> list[tuple[str, torch.Tensor]]:
    return [
        ("a.weight", torch.arange(6, dtype=torch.float32).view(2, 3)),
        ("b.bias", torch.tensor([1.5, -2.0], dtype=torch.bfloat16)),
        ("c.transposed", torch.arange(12, dtype=torch.float32).view(3, 4).T),
        ("d.scalar", torch.tensor(7.0)),
        ("e.empty", torch.empty(0, 4)),
        ("f.integer", torch.tensor([2**40], dtype=torch.int64)),
    ]


def test_every_tensor_arrives_unchanged(tmp_path: Path) -> None:
    sent = some_tensors()
    received = [pair for info in weight_buckets(sent, 32, tmp_path) for pair in read_bucket(info)]
    assert [name for name, _ in received] == [name for name, _ in sent]
    for (_, got), (name, expected) in zip(received, sent, strict=True):
        assert got.dtype == expected.dtype, name
        assert torch.equal(got, expected), name


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=12),
    bucket_bytes=st.integers(1, 2000),
)
def test_buckets_keep_their_limit(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], bucket_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("shm")
    tensors = [(str(i), torch.full((size,), float(i))) for i, size in enumerate(sizes)]
    names: list[str] = []
    for info in weight_buckets(tensors, bucket_bytes, folder):
        assert len(list(folder.iterdir())) == 1, "more than one bucket alive"
        if len(info["names"]) > 1:
            assert Path(info["path"]).stat().st_size <= bucket_bytes
        names += info["names"]
    assert names == [name for name, _ in tensors]
    assert not list(folder.iterdir())


def test_tensors_outlive_their_file(tmp_path: Path) -> None:
    buckets = weight_buckets([("a", torch.ones(1000)), ("b", torch.zeros(1000))], 4000, tmp_path)
    first = read_bucket(next(buckets))[0][1]
    second = read_bucket(next(buckets))[0][1]
    assert list(buckets) == []
    assert not list(tmp_path.iterdir())
    assert first.sum() == 1000
    assert second.sum() == 0


def test_closing_early_removes_the_file(tmp_path: Path) -> None:
    buckets = weight_buckets(some_tensors(), 32, tmp_path)
    next(buckets)
    buckets.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_source_removes_the_file(tmp_path: Path) -> None:
    def failing():
        yield "a", torch.ones(100)
        yield "b", torch.ones(100)
        raise RuntimeError("gather failed")

    with pytest.raises(RuntimeError, match="gather failed"):
        list(weight_buckets(failing(), 400, tmp_path))
    assert not list(tmp_path.iterdir())


def test_buckets_of_killed_processes_are_removed(tmp_path: Path) -> None:
    no_such_process = 2**22 + 1
    (tmp_path / f"{FILE_PREFIX}{no_such_process}-abc").write_bytes(b"x")
    (tmp_path / f"{FILE_PREFIX}1-abc").write_bytes(b"x")
    (tmp_path / "of-somebody-else").write_bytes(b"x")
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{FILE_PREFIX}1-abc",
        "of-somebody-else",
    ]


def test_bucket_size_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bucket_bytes"):
        next(weight_buckets(some_tensors(), 0, tmp_path))


def test_reading_a_removed_bucket_says_so(tmp_path: Path) -> None:
    info = next(weight_buckets(some_tensors(), 10**6, tmp_path)) | {"path": str(tmp_path / "gone")}
    with pytest.raises(FileNotFoundError):
        read_bucket(info)


def test_a_full_shared_memory_is_one_line_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(FileError, match=r"no room for 24 bytes of weights \(a.weight, …\)"):
        next(weight_buckets(some_tensors(), 32, tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileError, match="No such file or directory"):
        next(weight_buckets(some_tensors(), 32, tmp_path / "missing"))


def test_the_buckets_of_a_zombie_go(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    left = tmp_path / f"{FILE_PREFIX}{process.pid}-x"
    left.touch()
    remove_abandoned(tmp_path)
    assert not left.exists()
    process.wait()
