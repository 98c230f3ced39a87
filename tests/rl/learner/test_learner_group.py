"""The learner's ranks as actors: two learn what one does, and their errors have a name."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray
from kvl.configs.errors import CheckpointError
from kvl.configs.loading import load_config
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.checkpoint import iterate_tensors
from kvl.rl.learner.learner_group import LearnerError, LearnerGroup
from kvl.rollouts.fleet import Fleet
from stand_ins import TinyFleet, stand_in

# With Adam's usual eps the first steps are sign steps, and where a gradient is nearly 0 rounding
# picks the sign; a large eps makes the step a smooth function of the gradient.
SMOOTH = ("learner.optimizer.eps=1e-2", "learner.optimizer.learning_rate=1e-2")
ALIKE = ("accuracy", "samples", "sampled_tokens", "learner_tokens")
NEARLY = ("loss", "ell_mean", "ell_max", "grad_norm", "entropy", "reward_mean", "ptx_loss")


def finished(tiny: Any, run_dir: Path, *overrides: str) -> list[dict[str, Any]]:
    # Whole paths: an actor of a cluster that was there before starts in a folder of its own.
    ptx = (f"ptx.problems.path={tiny.folder}/solved.jsonl", "ptx.documents=3")
    paths = (f"checkpoint={tiny.folder}/tiny", f"problems.path={tiny.folder}/train.jsonl")
    tiny.train(run_dir, "checkpoint_every=3", *paths, *ptx, *SMOOTH, *overrides)
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def group(cluster: None, tiny_folder: Path, tmp_path: Path) -> Any:
    settings = (f"run_dir={tmp_path}", f"checkpoint={tiny_folder}/tiny")
    opened = LearnerGroup(load_config(tiny_folder / "rl.yaml", RLConfig, settings))
    yield opened
    opened.close()


def test_two_ranks_learn_what_one_does(
    cluster: None, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packs are dealt out to the ranks, one of which repeats a pack at weight 0."""
    rows = [json.loads(line) for line in (tiny.folder / "train.jsonl").read_text().splitlines()]
    solved = [row | {"solution": f"It is {row['answer']}."} for row in rows]
    (tiny.folder / "solved.jsonl").write_text("".join(json.dumps(row) + "\n" for row in solved))
    one = finished(tiny, tmp_path / "one")
    monkeypatch.undo()
    stand_in(monkeypatch, Fleet, TinyFleet)
    two = finished(tiny, tmp_path / "two", "learner.world_size=2")

    assert len(one) == len(two) == 3
    for first, second in zip(one, two, strict=True):
        assert {name: second[name] for name in ALIKE} == {name: first[name] for name in ALIKE}
        for name in NEARLY:
            assert second[name] == pytest.approx(first[name], rel=1e-3, abs=1e-6), name
        # Their weights arrive, too.
        assert second["sync_difference_max"] < 1e-4
    assert all(record["ptx_loss"] > 0 for record in one)
    start, after_one, after_two = (
        {name: tensor for name, tensor, _ in iterate_tensors(folder)}
        for folder in (tiny.folder / "tiny", tmp_path / "one/final", tmp_path / "two/final")
    )
    assert start.keys() == after_one.keys() == after_two.keys()
    moved = max(float((after_one[name] - start[name]).abs().max()) for name in start)
    apart = max(float((after_one[name] - after_two[name]).abs().max()) for name in start)
    assert moved > 1e-4
    assert apart < moved / 100, (apart, moved)


def test_an_error_of_a_rank_keeps_its_type_and_a_dead_one_is_named(
    group: LearnerGroup, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="no complete learner state"):
        group.load_state(tmp_path)
    pid: Any = ray.get(group.ranks[0].__ray_call__.remote(lambda _rank: os.getpid()))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(LearnerError, match="resume"):
        group.update(0)
