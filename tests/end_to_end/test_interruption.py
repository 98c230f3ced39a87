"""Runs that are stopped in the middle: nothing is lost, nothing is left."""

from __future__ import annotations

import hashlib
import shutil
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


def assert_stopped(command, line, code):
    """By itself, with one line and nothing left behind."""
    assert command.process.returncode == code, command.stderr
    assert command.own_stderr == [line]
    assert "Traceback" not in command.stdout + command.stderr
    assert command.left_over() == []
    assert command.weight_files == []


def test_ctrl_c_at_the_start_stops_cleanly(workshop):
    command = workshop.start("kvl-rl", "train", "rl.yaml", "run_dir=interrupted")
    command.wait_until(lambda: command.has_started("forkserver"))
    command.signal(signal.SIGINT, group=True)
    assert_stopped(command.wait(), "interrupted", 130)


def test_a_finished_run_goes_on_and_sigterm_to_all_its_processes_stops_it_cleanly(
    workshop, finished, records
):
    """Slurm signals every process of a job step, as this does."""
    folder = workshop.folder / "extended"
    shutil.copytree(finished, folder)
    settings = [
        "run_dir=extended",
        "evaluation.problems.path=problems/heldout.jsonl",
        "evaluation.samples=2",
        "iterations=1000",
    ]
    command = workshop.start("kvl-rl", "train", "rl.yaml", *settings)
    command.wait_until((folder / "checkpoints/iteration_000004").is_dir)
    second = workshop.start("kvl-rl", "train", "rl.yaml", *settings).wait()
    assert second.process.returncode == 2
    assert f"in use by process {command.process.pid} on " in "".join(second.own_stderr)
    command.signal(signal.SIGTERM, group=True)
    assert_stopped(command.wait(), "terminated", 143)
    before = records(finished / "metrics.jsonl")
    assert records(folder / "metrics.jsonl")[: len(before)] == before
    assert not (folder / "final").exists()
    names = [path.stem for path in (folder / "evaluation").glob("*.json")]
    assert sorted(names) == ["before", "iteration_000002", "iteration_000003"]


def test_a_hangup_stops_a_supervised_run_cleanly(workshop):
    command = workshop.start("kvl-sft", "train", "sft.yaml", "run_dir=hung_up", "epochs=1000")
    command.wait_until((workshop.folder / "hung_up/metrics.jsonl").is_file)
    command.signal(signal.SIGHUP, group=True)
    assert_stopped(command.wait(), "hung up", 129)


def test_nothing_of_a_killed_run_is_left_after_a_while(killed):
    """Comes last, because Ray's agents need their time."""
    assert killed.left_over(grace_seconds=90) == []
    assert killed.weight_files == []
