"""The newest whole checkpoint of the same run is used; everything else is said in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kvl.configs.errors import CheckpointError, KVLError
from kvl.run_files.checkpoints import MANIFEST, STATE_FILE, Checkpoints
from kvl.run_files.identity import Identity

RUN = Identity({"seed": 0, "checkpoint": "tiny"}, {"checkpoint": "aa"})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, said: list[str]) -> Callable[..., Checkpoints]:
    def make(run: Identity = RUN, keep: int = 2, unit: str = "iteration") -> Checkpoints:
        return Checkpoints(tmp_path / "checkpoints", unit, keep, run, said.append)  # type: ignore[arg-type]

    return make


def fill(folder: Path) -> None:
    (folder / "random_states").mkdir()
    (folder / "random_states" / "0").write_bytes(b"r" * 10)
    (folder / "model.safetensors").write_bytes(b"w" * 1000)


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_the_newest_one_comes_back_with_its_state(make, said) -> None:
    checkpoints = make()
    assert checkpoints.latest() is None
    for position in (1, 2, 10):
        checkpoints.save(position, {"sampler": position}, fill)
    latest = checkpoints.latest()
    assert latest.position == 10
    assert latest.state()["sampler"] == 10
    assert names(checkpoints) == ["iteration_000002", "iteration_000010"]
    assert said == []


def cut(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"w" * 999)


def zeroed(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\0" * 1000)


def lost(folder: Path) -> None:
    (folder / "random_states" / "0").unlink()


def without_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def strange_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text('["model.safetensors"]')


def empty_state(folder: Path) -> None:
    (folder / STATE_FILE).write_text("")


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def renamed(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("iteration_000001"), folder)


DAMAGES = [cut, zeroed, lost, without_manifest, strange_manifest, empty_state, emptied, renamed]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_is_named_and_the_one_before_is_used(make, said, damage) -> None:
    checkpoints = make()
    for position in (1, 2):
        checkpoints.save(position, {}, fill)
    damage(checkpoints.folder / "iteration_000002")
    assert checkpoints.latest().position == 1
    assert len(said) == 1
    assert said[0].startswith(f"{checkpoints.folder}/iteration_000002 (")
    assert said[0].endswith("damaged, iteration_000001 is used instead")
    # A damaged one does not take the place of a whole one.
    checkpoints.save(3, {}, fill)
    assert names(checkpoints)[0] == "iteration_000001"


def test_without_a_whole_one_a_run_does_not_start_over_by_itself(make) -> None:
    checkpoints = make()
    checkpoints.save(1, {}, fill)
    cut(checkpoints.folder / "iteration_000001")
    with pytest.raises(CheckpointError, match=r"999 bytes, not 1000.*no whole checkpoint is left"):
        checkpoints.latest()


def test_a_failed_save_leaves_the_one_before_and_nothing_else(make) -> None:
    checkpoints = make()
    checkpoints.save(1, {}, fill)

    def fail(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(2, {}, fail)
    assert names(checkpoints) == ["iteration_000001"]


def test_what_a_kill_left_half_written_is_passed_over_and_removed(make) -> None:
    checkpoints = make()
    checkpoints.save(1, {}, fill)
    fill(checkpoints.begin(2))
    assert make().latest().position == 1
    make().save(3, {}, fill)
    assert names(checkpoints) == ["iteration_000001", "iteration_000003"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Identity({"seed": 1, "checkpoint": "tiny"}), "another seed; seed was 1, is 0"),
        (
            Identity({"seed": 0, "checkpoint": "tiny"}, {"checkpoint": "bb"}),
            "another checkpoint; checkpoint tiny has other contents now",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(make, other: Identity, message: str) -> None:
    make(other).save(1, {}, fill)
    with pytest.raises(KVLError, match=message) as caught:
        make().latest()
    assert MANIFEST in str(caught.value)


def test_the_same_contents_may_lie_elsewhere(make) -> None:
    make(Identity({"seed": 0, "checkpoint": "/old/tiny"}, {"checkpoint": "aa"})).save(1, {}, fill)
    assert make().latest().position == 1


def test_checkpoints_of_older_versions_are_used(make, tmp_path: Path) -> None:
    reinforced = make()
    old = reinforced.folder / "iteration_000004"
    old.mkdir(parents=True)
    fill(old)
    (old / STATE_FILE).write_text("{}")
    assert reinforced.latest().position == 4
    (old / STATE_FILE).write_text('{"samp')
    with pytest.raises(CheckpointError, match=rf"{STATE_FILE}.*cannot be read"):
        reinforced.latest()

    supervised = make(unit="step")
    old = supervised.folder / "step_000200"
    old.mkdir()
    (old / "model.safetensors").write_bytes(b"w" * 1000)
    (old / MANIFEST).write_text(json.dumps({"model.safetensors": 1000}))
    assert supervised.latest().position == 200
    cut(old)
    with pytest.raises(CheckpointError, match="999 bytes"):
        supervised.latest()
