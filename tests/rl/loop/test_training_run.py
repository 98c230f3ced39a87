"""Whole runs of `kvl-rl train` with the tiny model in place of the engine: what is measured, what
moves, what a resumed run does, and when a run must stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from kvl.kimi_vl_model.checkpoint import iterate_tensors
from stand_ins import TinyFleet

EVALUATED = ("evaluation.problems.path=heldout.jsonl", "evaluation.samples=2", "evaluation.every=1")


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_clocks(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if "second" not in k and k != "timestamp"}


def weights(folder: Path) -> dict[str, Any]:
    return {name: tensor for name, tensor, _ in iterate_tensors(folder)}


def test_a_run_measures_every_iteration_and_moves_the_weights(tiny, tmp_path):
    run = tmp_path / "run"
    tiny.train(run)
    metrics = records(run / "metrics.jsonl")
    assert [record["iteration"] for record in metrics] == [0, 1, 2]
    assert [record["weight_version"] for record in metrics] == [0, 1, 2]
    for record in metrics:
        assert (record["problems"], record["samples"]) == (3, 12)
        assert 0 < record["response_tokens_mean"] <= record["response_tokens_max"] <= 20
        assert record["sampled_tokens"] == pytest.approx(12 * record["response_tokens_mean"])
        assert record["learner_tokens"] > record["sampled_tokens"]
        # Both sides are the same model in the same precision.
        assert record["mismatch_max"] < 1e-4
        assert record["sync_difference_max"] < 1e-4
        assert record["grad_norm"] > 0
        assert record["reward_mean"] == pytest.approx(
            record["reward/accuracy"] + record["reward/length"]
        )
        assert record["stale_share"] == record["invalid_share"] == record["failures"] == 0
    assert len({record["loss"] for record in metrics}) == 3
    before, after = weights(tiny.folder / "tiny"), weights(run / "final")
    assert before.keys() == after.keys()
    moved = {name for name in before if not before[name].equal(after[name])}
    assert any("experts" in name for name in moved)
    assert any("vision_tower" in name for name in moved)


class EndsInTheThirdIteration(TinyFleet):
    def generate(self, *arguments: Any) -> Any:
        if self.weight_versions() == [2] and arguments[1].samples > 1:
            raise KeyboardInterrupt
        return super().generate(*arguments)


def test_a_resumed_run_is_the_uninterrupted_one(tiny, tmp_path):
    """Through checkpoints that hold waiting responses, the optimizer's state and priorities."""
    settings = (
        *("iterations=4", "rollout.problems_per_iteration=6", "rollout.samples_per_problem=2"),
        *("rollout.truncated=continue", "rollout.max_response_tokens=10"),
        *("rollout.max_total_tokens=20", "learner.reset_optimizer=false"),
        *("choosing.prioritized=true", "rollout.engine.deterministic=true"),
    )
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    tiny.train(straight, *settings)
    assert any(r["waiting_groups"] for r in records(straight / "metrics.jsonl")[:2])

    tiny.with_fleet(EndsInTheThirdIteration)
    tiny.train(broken, *settings, code=130)
    assert len(records(broken / "metrics.jsonl")) == 2
    assert not (broken / "final").exists()
    # The resumed run is not told what the broken one went on to sample.
    tiny.with_fleet(TinyFleet)
    tiny.train(broken, *settings)
    assert list(map(without_clocks, records(broken / "metrics.jsonl"))) == list(
        map(without_clocks, records(straight / "metrics.jsonl"))
    )
    one, other = weights(straight / "final"), weights(broken / "final")
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)
    assert "all 4 iterations are done" in tiny.train(broken, *settings).stdout


def test_the_newest_checkpoints_are_kept_and_half_of_one_is_none(tiny, tmp_path):
    run = tmp_path / "run"
    tiny.with_fleet(EndsInTheThirdIteration)
    tiny.train(run, "iterations=4", "keep_checkpoints=2", code=130)
    # What a kill leaves that comes while a checkpoint is written.
    (run / "checkpoints/.iteration_000003.partial").mkdir()
    (run / "checkpoints/iteration_000003").mkdir()
    tiny.with_fleet(TinyFleet)
    tiny.train(run, "iterations=4", "keep_checkpoints=2")
    assert [record["iteration"] for record in records(run / "metrics.jsonl")] == [0, 1, 2, 3]
    kept = {path.name for path in (run / "checkpoints").glob("iteration_*")}
    assert kept == {"iteration_000003", "iteration_000004"}


class KeepsOldWeights(TinyFleet):
    """Says that it took them."""

    def load(self, update: dict[str, Any]) -> None:
        if self.weight_versions() != [0]:
            super().load(update)


class LosesATensor(TinyFleet):
    def load(self, update: dict[str, Any]) -> None:
        wrong = update["names"].index("language_model.lm_head.weight")
        super().load({key: value[:wrong] + value[wrong + 1 :] if isinstance(value, list) else value
                      for key, value in update.items()})  # fmt: skip


class KeepsItsVersion(TinyFleet):
    def sync_weights(self, updates: Iterable[dict[str, Any]], version: int) -> None:
        super().sync_weights(updates, 0)


@pytest.mark.parametrize("fleet", [KeepsOldWeights, LosesATensor])
def test_engines_without_the_new_weights_stop_the_run(tiny, tmp_path, fleet):
    tiny.with_fleet(fleet)
    settings = ("learner.optimizer.learning_rate=1e-2",)
    (line,) = tiny.train(tmp_path / "run", *settings, code=2).stderr.splitlines()
    assert line.startswith("error: sync 1: engine and learner log-probs of sampled tokens differ")
    # The iteration whose weights did not arrive is not recorded: a resumed run does it again.
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_engines_that_still_mark_tokens_with_old_weights_stop_the_run(tiny, tmp_path):
    tiny.with_fleet(KeepsItsVersion)
    (line,) = tiny.train(tmp_path / "run", code=2).stderr.splitlines()
    assert "sync 1" in line
    assert "weight version 0" in line


def test_evaluations_are_kept_and_the_best_policy_with_them(tiny, tmp_path):
    run = tmp_path / "run"
    tiny.train(run, *EVALUATED, "evaluation.keep_best=pass_at_1")
    metrics = records(run / "metrics.jsonl")
    during = {}
    for name in ("before", "iteration_000001", "iteration_000002", "after"):
        summary = json.loads((run / f"evaluation/{name}.json").read_text())
        assert (summary["problems"], summary["samples"]) == (4, 2)
        assert summary["failures"] == []
        assert len(records(run / f"evaluation/{name}.jsonl")) == 4
        during[name] = summary["pass_at_1"]
    assert not (run / "evaluation/iteration_000003.json").exists()
    assert "evaluation/pass_at_1" not in metrics[-1]
    logged = [record["evaluation/pass_at_1"] for record in metrics[:-1]]
    assert logged == [during["iteration_000001"], during["iteration_000002"]]
    best = json.loads((run / "best.json").read_text())
    # The first of equals.
    assert best["value"] == max(logged)
    assert best["iteration"] == 1 + logged.index(best["value"])
    assert weights(run / "best").keys() == weights(run / "final").keys()


def test_a_finished_evaluation_is_not_done_again(tiny, tmp_path):
    run = tmp_path / "run"
    tiny.train(run, *EVALUATED, "iterations=1")
    before = (run / "evaluation/before.json").read_bytes()
    shutil.rmtree(run / "final")
    (run / "evaluation/after.json").unlink()
    tiny.train(run, *EVALUATED, "iterations=1")
    assert (run / "final").is_dir()
    assert (run / "evaluation/after.json").is_file()
    assert (run / "evaluation/before.json").read_bytes() == before


def test_problems_that_cannot_be_sampled_are_reported_and_cost_only_themselves(tiny, tmp_path):
    rows = records(tiny.folder / "train.jsonl")
    rows[0]["question"] += " and so on" * 500
    rows[1]["answer"] = ""
    (tiny.folder / "damaged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    tiny.train(run, "problems.path=damaged.jsonl", "rollout.problems_per_iteration=7")
    failures = {line["id"]: line["reason"] for line in records(run / "failures.jsonl")}
    assert failures.keys() == {rows[0]["id"], rows[1]["id"]}
    assert "max_model_len" in failures[rows[0]["id"]]
    assert [record["problems"] for record in records(run / "metrics.jsonl")] == [6, 6, 6]


def test_the_transcripts_hold_what_was_rewarded(tiny, tmp_path):
    run = tmp_path / "run"
    tiny.train(run, "iterations=1", "transcripts_per_iteration=3")
    (metrics,) = records(run / "metrics.jsonl")
    groups = records(run / "transcripts/iteration_000000.jsonl")
    samples = [sample for group in groups for sample in group["responses"]]
    assert len(groups) == 3
    assert len(samples) == 12
    for sample in samples:
        assert sample["reward"] == pytest.approx(sum(sample["parts"].values()))
    assert sum(sample["reward"] for sample in samples) / 12 == pytest.approx(metrics["reward_mean"])
    assert max(sample["tokens"] for sample in samples) == metrics["response_tokens_max"]
    for group in groups:
        assert sum(sample["advantage"] for sample in group["responses"]) == pytest.approx(
            0, abs=1e-6
        )
