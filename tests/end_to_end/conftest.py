"""The commands as a user starts them: processes of their own, watched so that none is left; and
inside the test process, on the engine that all such tests share."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Command
from inside import Ended, run_inside
from kvl.configs.rollout import RolloutConfig
from kvl.rl.learner.learner_group import LearnerGroup
from kvl.rollouts.fleet import Fleet
from shared_engine import SharedEngine
from stand_ins import LocalLearner, stand_in


class Workshop:
    """A folder with a tiny checkpoint after SFT, problems and an RL config; starts commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[Command] = []
        self._ray_folders: list[Path] = []

    def ray_folder(self) -> Path:
        """Short, because Ray puts Unix sockets into it."""
        self._ray_folders.append(Path(tempfile.mkdtemp(prefix="kvl", dir="/tmp")))
        return self._ray_folders[-1]

    def start(
        self, *arguments: str | Path, ray_folder: Path | None = None, **environment: str
    ) -> Command:
        command = Command(arguments, self.folder, ray_folder or self.ray_folder(), **environment)
        self.commands.append(command)
        return command

    def run(self, *arguments: str | Path, **environment: str) -> Command:
        """A command that must succeed and end all its processes."""
        command = self.start(*arguments, ray_folder=None, **environment).wait()
        assert command.process.returncode == 0, f"{command.stdout}\n{command.stderr}"
        assert command.left_over() == []
        return command

    def close(self) -> None:
        for command in self.commands:
            command.kill()
        for folder in self._ray_folders:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Head:
    """A Ray head on this machine: its dashboard's address, its own, and its Ray folder."""

    command: Command
    dashboard: str
    address: str
    ray_folder: Path

    def actors(self) -> list[dict[str, Any]]:
        """Of all commands that were on it; one of them was a `class_name`, is in a `state`."""
        with urllib.request.urlopen(f"{self.dashboard}/api/v0/actors", timeout=30) as answer:
            return json.load(answer)["data"]["result"]["result"]


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all processes of this test run."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def workshop(shared_folder: Path) -> Iterator[Workshop]:
    """After `init-tiny`, `generate` and a short supervised stage: answers in the right format,
    seldom right ones. The first process of the test run that needs it makes it."""
    workshop = Workshop(shared_folder / "e2e")
    with (shared_folder / "e2e.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not workshop.folder.exists():
            workshop.folder.mkdir()
            furnish(workshop)
            (workshop.folder / "furnished").touch()
    assert (workshop.folder / "furnished").exists(), "the supervised stage failed before"
    yield workshop
    workshop.close()


def furnish(shop: Workshop) -> None:
    shop.run("kvl-sft", "init-tiny", "tiny")
    counts = ("--train", "64", "--heldout", "8", "--families", "arithmetic", "--levels", "1")
    shop.run("kvl-sft", "generate", "problems", *counts)
    train = read_jsonl(shop.folder / "problems/train.jsonl")
    # Two lengths, so that the length reward has something to tell apart in every group.
    short = [
        record | {"solution": f"It is {record['answer']}." + " I am sure." * (number % 2)}
        for number, record in enumerate(train)
    ]
    write_jsonl(shop.folder / "problems/short.jsonl", short)
    supervised = {
        "run_dir": "sft",
        "checkpoint": "tiny",
        "problems": {"path": "problems/short.jsonl"},
        "epochs": 6,
        "batch_size": 4,
        "max_tokens": 512,
        "precision": {"threads": 1},
        "optimizer": {"name": "muon", "learning_rate": 2e-3, "eps": 1e-8},
    }
    (shop.folder / "sft.yaml").write_text(yaml.safe_dump(supervised))
    reinforced = {
        "run_dir": "rl",
        "checkpoint": "sft/final",
        "problems": {"path": "problems/train.jsonl"},
        "iterations": 3,
        "rollout": {
            "problems_per_iteration": 4,
            "samples_per_problem": 4,
            "max_response_tokens": 24,
            "engine": {
                "dtype": "float32",
                "max_model_len": 512,
                "max_num_seqs": 64,
                "deterministic": True,
            },
        },
        # The length reward makes advantages also where no sample is right.
        "rewards": [{"type": "accuracy"}, {"type": "length", "weight": 0.5}],
        "grader": {"timeout_seconds": 60},
        "learner": {
            "minibatches": 2,
            "pack_tokens": 128,
            "optimizer": {"learning_rate": 1e-4, "eps": 1e-8},
            "precision": {"threads": 1},
        },
        "checkpoint_every": 1,
    }
    (shop.folder / "rl.yaml").write_text(yaml.safe_dump(reinforced))
    shop.run("kvl-sft", "train", "sft.yaml")


@pytest.fixture(scope="session")
def head(workshop: Workshop) -> Head:
    """As `ray start` leaves one; the commands of the first run, its evaluation and its job."""
    folder, dashboard, port = workshop.ray_folder(), free_port(), free_port()
    # `ray stop` would also stop everybody else's Ray; a blocking head ends with its signal.
    command = workshop.start(
        *("ray", "start", "--head", "--block", f"--port={port}", f"--temp-dir={folder}/head"),
        *("--node-ip-address=127.0.0.1", "--include-dashboard=true"),
        f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={free_port()}",
        f"--dashboard-agent-grpc-port={free_port()}",
        f"--ray-client-server-port={free_port()}",
        *("--num-cpus=4", f"--object-store-memory={100 * 2**20}", "--disable-usage-stats"),
        ray_folder=folder,
        RAY_AUTH_MODE="disabled",
    )
    head = Head(command, f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", folder)
    command.wait_until(lambda: answers(f"{head.dashboard}/api/version"))
    return head


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def job(workshop: Workshop, head: Head) -> Command:
    """Three iterations with evaluation before and after, as a job of the head."""
    here = workshop.folder
    return workshop.start(
        *("ray", "job", "submit", "--address", head.dashboard, "--"),
        *("kvl-rl", "train", here / "rl.yaml", f"run_dir={here}/finished"),
        *(f"checkpoint={here}/sft/final", f"problems.path={here}/problems/train.jsonl"),
        f"evaluation.problems.path={here}/problems/heldout.jsonl",
        *("evaluation.samples=2", "evaluation.every=2", "evaluation.keep_best=pass_at_1"),
        "keep_checkpoints=3",
        RAY_AUTH_MODE="disabled",
    ).wait()


@pytest.fixture(scope="session")
def finished(workshop: Workshop, job: Command) -> Path:
    """The run folder of the job."""
    assert job.process.returncode == 0, job.stdout + job.stderr
    return workshop.folder / "finished"


@pytest.fixture
def inside(
    workshop: Workshop, shared_engine: SharedEngine, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ended]:
    """Runs a command in the test process, its fleet on the shared engine and its learner here.

    Fails unless the command ends well, and closes every fleet and learner that it opened.
    """
    shared_engine.start()
    learners = stand_in(monkeypatch, LearnerGroup, LocalLearner)
    open_fleets: list[Fleet] = []

    def open_fleet(self: Fleet, checkpoint: Path, config: RolloutConfig, seed: int = 0) -> None:
        open_fleets.append(self)
        vars(self).update(vars(shared_engine.serve(checkpoint, config.engine)))

    monkeypatch.setattr(Fleet, "__init__", open_fleet)
    monkeypatch.setattr(Fleet, "shutdown", lambda fleet: open_fleets.remove(fleet))

    def run(*arguments: str | Path, code: int = 0) -> Ended:
        ended = run_inside(workshop.folder, *arguments)
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert open_fleets == []
        assert not any(learner.is_open for learner in learners)
        return ended

    return run


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_jsonl(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="session")
def records() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads a JSONL file."""
    return read_jsonl


@pytest.fixture(scope="session")
def write_records() -> Callable[[Path, Sequence[dict[str, Any]]], None]:
    return write_jsonl
