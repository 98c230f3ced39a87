"""Training runs on the tiny model within the test's own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from inside import Ended, run_inside
from kvl.configs.common import ProblemSource
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.jsonl import write_jsonl
from kvl.problems.loading import load_problems
from kvl.problems.synthetic import Split, generate
from kvl.problems.synthetic.texts import written_texts
from kvl.rl.learner.learner_group import LearnerGroup
from kvl.rollouts.fleet import Fleet
from stand_ins import LocalLearner, TinyFleet, stand_in, teach

TRAIN = {
    "run_dir": "run",
    "checkpoint": "tiny",
    "problems": {"path": "train.jsonl"},
    "iterations": 3,
    "rollout": {
        "problems_per_iteration": 3,
        "samples_per_problem": 4,
        "max_response_tokens": 20,
        "engine": {"dtype": "float32", "max_model_len": 512},
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
    "keep_checkpoints": 9,
    "trackers": [],
}


@dataclass(slots=True)
class TinyRuns:
    """Runs `kvl-rl` in a folder with a taught tiny checkpoint, problems and `rl.yaml`."""

    folder: Path
    patch: pytest.MonkeyPatch
    fleets: list[Any]
    learners: list[Any]

    def __call__(self, *arguments: str | Path, code: int = 0) -> Ended:
        """The command must end well unless told so, and close all that it opens."""
        ended = run_inside(self.folder, "kvl-rl", *arguments)
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert not any(one.is_open for one in (*self.fleets, *self.learners))
        return ended

    def train(self, run_dir: Path, *overrides: str, code: int = 0) -> Ended:
        return self("train", "rl.yaml", f"run_dir={run_dir}", *overrides, code=code)

    def with_fleet(self, make: Callable[..., Any]) -> None:
        """From now on."""
        self.fleets = stand_in(self.patch, Fleet, make)


def furnish(folder: Path) -> None:
    """A tiny checkpoint that knows the format, problems, and the config `TRAIN`."""
    torch.set_num_threads(1)
    counts: dict[Split, int] = {"train": 8, "heldout": 4}
    for split, count in counts.items():
        write_jsonl(generate(split, count, ("arithmetic",), (1,), 0), folder / f"{split}.jsonl")
    problems, skipped = load_problems(ProblemSource(path=folder / "train.jsonl"))
    assert skipped == []
    # Two lengths, so that the length reward has something to tell apart in every group.
    start = write_tiny_checkpoint(folder / "tiny", written_texts())
    teach(start, problems, ("", " I am sure."), steps=120)
    (folder / "rl.yaml").write_text(yaml.safe_dump(TRAIN))


def tiny_runs(folder: Path, patch: pytest.MonkeyPatch) -> TinyRuns:
    """Commands find the stand-ins in place of a fleet and of ranks, as long as `patch` lasts."""
    # Nothing of such a run needs Ray.
    patch.setattr("ray.is_initialized", lambda: True)
    fleets = stand_in(patch, Fleet, TinyFleet)
    learners = stand_in(patch, LearnerGroup, LocalLearner)
    return TinyRuns(folder, patch, fleets, learners)
