"""Runs that are stopped in the middle: nothing is lost, nothing is left."""

from __future__ import annotations

import hashlib
import signal

import pytest

TRAIN = ("kvl-rl", "train", "rl.yaml", "run_dir=killed")
# When their raylet dies, Ray's agents try for 60 s to tell the driver, then they end.
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


@pytest.fixture(scope="module")
def killed(workshop):
    """A run whose driver got SIGKILL after its first checkpoint."""
    command = workshop.start(*TRAIN)
    command.wait_until((workshop.folder / "killed/checkpoints/iteration_000001").is_dir)
    command.signal(signal.SIGKILL)
    command.process.wait()
    return command


def test_a_killed_run_resumes_and_ends_bit_for_bit_as_if_never_killed(
    workshop, finished, killed, records
):
    folder = workshop.folder / "killed"
    assert not (folder / "final").exists()
    first = (folder / "metrics.jsonl").read_bytes().splitlines()[0]
    # At once, as an impatient user would.
    resumed = workshop.start(*TRAIN)
    assert killed.left_over(besides=RAY_AGENTS) == []
    resumed.wait()
    assert resumed.process.returncode == 0, resumed.stderr
    assert resumed.left_over() == []
    assert (folder / "final").is_dir()
    assert (folder / "metrics.jsonl").read_bytes().splitlines()[0] == first
    for record, straight in zip(
        records(folder / "metrics.jsonl"), records(finished / "metrics.jsonl"), strict=True
    ):
        assert without_clocks(record) == without_clocks(straight)
    assert digest(folder / "final") == digest(finished / "final")


def without_clocks(record):
    return {
        name: value
        for name, value in record.items()
        if "second" not in name and name != "timestamp" and not name.startswith("evaluation/")
    }


def digest(folder):
    """Every file of a checkpoint with a hash of its bytes."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("moment", ["starting", "training"])
def test_ctrl_c_stops_cleanly(workshop, moment):
    name = f"interrupted_{moment}"
    command = workshop.start("kvl-rl", "train", "rl.yaml", f"run_dir={name}", "iterations=1000")
    if moment == "starting":
        command.wait_until(lambda: command.has_started("forkserver"))
    else:
        command.wait_until((workshop.folder / name / "checkpoints/iteration_000001").is_dir)
    command.signal(signal.SIGINT, group=True)
    command.wait()
    assert command.process.returncode == 130, command.stderr
    assert command.own_stderr == ["interrupted"]
    assert "Traceback" not in command.stdout + command.stderr
    assert command.left_over() == []
    assert command.weight_files == []


def test_nothing_of_a_killed_run_is_left_after_a_while(killed):
    """Comes last, because Ray's agents need their time."""
    assert killed.left_over(grace_seconds=90) == []
    assert killed.weight_files == []
