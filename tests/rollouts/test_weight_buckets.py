"""The bucket writer and reader, without an engine."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kvl.configs.errors import FileError
from kvl.rollouts.weights import weight_buckets as weight_buckets_module
from kvl.rollouts.weights.weight_buckets import (
    FILE_PREFIX,
    read_bucket,
    remove_abandoned,
    weight_buckets,
)
from kvl.rollouts.weights.weight_digest import WeightDigest


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
        if len(info["names"]) > 1:
            assert info["offsets"][-1] + 4 * info["shapes"][-1][0] <= bucket_bytes
        names += info["names"]
    assert names == [name for name, _ in tensors]
    forget(folder)


def hundreds(count: int) -> list[tuple[str, torch.Tensor]]:
    return [(str(i), torch.full((100,), float(i))) for i in range(count)]


def forget(folder: Path) -> None:
    weight_buckets_module._kept.pop(folder).close()


def test_what_is_let_go_takes_two_files_for_all_syncs(tmp_path: Path) -> None:
    paths = set()
    for _sync in range(2):
        for number, info in enumerate(weight_buckets(hundreds(5), 400, tmp_path)):
            (_name, tensor), *none = read_bucket(info)
            assert none == []
            assert tensor.eq(number).all()
            paths.add(info["path"])
            del tensor
    assert len(paths) == 2


def test_a_file_is_not_written_while_an_engine_holds_a_tensor_in_it(tmp_path: Path) -> None:
    """Not in the same sync and not in a later one; then it is used again."""
    held: dict[str, torch.Tensor] = {}
    for info in weight_buckets(hundreds(5), 400, tmp_path):
        (_name, tensor), *_ = read_bucket(info)
        held[info["path"]] = tensor
    assert len(held) == 5
    infos = list(weight_buckets([("x", torch.full((100,), -1.0))], 400, tmp_path))
    assert infos[0]["path"] not in held
    assert [tensor.mean() for tensor in held.values()] == [0, 1, 2, 3, 4]
    free = next(iter(held))
    del held[free], tensor
    (info,) = weight_buckets([("x", torch.full((100,), -1.0))], 400, tmp_path)
    assert info["path"] == free


def test_the_newest_bucket_is_left_alone_before_anyone_has_opened_it(tmp_path: Path) -> None:
    buckets = weight_buckets(hundreds(3), 400, tmp_path)
    infos = [next(buckets)]
    for _ in range(2):
        infos.append(next(buckets))
        assert read_bucket(infos[-2])[0][1].eq(len(infos) - 2).all()


def test_a_larger_bucket_takes_the_place_of_a_small_one(tmp_path: Path) -> None:
    for size in (10, 10, 1000, 1000):
        (info,) = weight_buckets([("a", torch.full((size,), 1.0 * size))], 10**6, tmp_path)
        assert read_bucket(info)[0][1].eq(size).all()
    kept = weight_buckets_module._kept[tmp_path].files
    assert [len(file.memory) for file in kept] == [4000, 4000]


def test_no_bucket_has_a_name_that_a_kill_could_leave_behind(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, signal, sys, torch\n"
        "from kvl.rollouts.weights.weight_buckets import read_bucket, weight_buckets\n"
        "buckets = weight_buckets([('a', torch.ones(9)), ('b', torch.ones(9))], 36,"
        " pathlib.Path(sys.argv[1]))\n"
        "held = read_bucket(next(buckets)), next(buckets)\n"
        "print(os.listdir(sys.argv[1]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-u", "-c", script, str(tmp_path)]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "[]\n"), killed.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_leaves_files_that_go_on_serving(tmp_path: Path) -> None:
    def failing():
        yield "a", torch.ones(100)
        yield "b", torch.ones(100)
        raise RuntimeError("gather failed")

    with pytest.raises(RuntimeError, match="gather failed"):
        list(weight_buckets(failing(), 400, tmp_path))
    (info,) = weight_buckets([("c", torch.ones(3))], 400, tmp_path)
    assert read_bucket(info)[0][1].sum() == 3


def received_digest(infos: Iterable[dict[str, Any]]) -> tuple[str, str]:
    """(of the receiver, of the sender)"""
    digest, sent = WeightDigest(), ""
    for info in infos:
        for name, tensor in read_bucket(info):
            digest.add(name, tensor)
        sent = info["digest"]
    return digest.value, sent


def test_both_ends_have_one_checksum_whatever_the_buckets(tmp_path: Path) -> None:
    values = {received_digest(weight_buckets(some_tensors(), n, tmp_path)) for n in (1, 40, 10**6)}
    assert len({one for pair in values for one in pair}) == 1


def test_the_checksum_tells_names_bytes_and_order_apart(tmp_path: Path) -> None:
    plain = some_tensors()
    (name, first), second, *rest = plain
    others = [
        [("a.other", first), second, *rest],
        [(name, first + torch.eye(2, 3) * 1e-6), second, *rest],
        [second, (name, first), *rest],
        [(name, first.view(3, 2)), second, *rest],
        [(name, first), second, *rest[:-1]],
    ]
    digests = [received_digest(weight_buckets(one, 64, tmp_path))[0] for one in [plain, *others]]
    assert len(set(digests)) == len(digests)


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


def test_another_file_in_a_buckets_place_is_not_read(tmp_path: Path) -> None:
    """As on another machine, where that process is somebody else's."""
    info = next(weight_buckets(some_tensors(), 10**6, tmp_path))
    (tmp_path / "other").write_bytes(b"x" * 1000)
    with pytest.raises(FileNotFoundError, match="no longer the bucket"):
        read_bucket(info | {"path": str(tmp_path / "other")})


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
