"""From a supervised checkpoint through RL to an evaluated, reported export."""

from __future__ import annotations

import json

import pytest
import torch
from kvl.configs.loading import load_config
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.checkpoint import (
    iterate_tensors,
    load_model,
    persistent_state,
    published_tensors,
)
from peft import PeftModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

METRICS = {
    "accuracy",
    "reward_mean",
    "groups_all_right",
    "groups_all_wrong",
    "response_tokens_mean",
    "truncated_share",
    "repetition_share",
    "ell_mean",
    "ell_max",
    "mismatch_max",
    "mismatch_kl",
    "sync_difference_max",
    "entropy",
    "loss",
    "grad_norm",
    "seconds_rollout",
    "seconds_grade",
    "seconds_reference",
    "seconds_learn",
    "seconds_sync",
    "seconds_total",
    "rollout_tokens_per_second",
    "learner_tokens_per_second",
}


def test_every_iteration_is_measured_and_engine_and_learner_agree(finished, records):
    metrics = records(finished / "metrics.jsonl")
    assert [record["iteration"] for record in metrics] == [0, 1, 2]
    assert [record["weight_version"] for record in metrics] == [0, 1, 2]
    for record in metrics:
        assert record.keys() >= METRICS
        assert record["problems"] == 4
        assert record["samples"] == 16
        assert 0 < record["mismatch_max"] <= 2e-3
        assert 0 < record["sync_difference_max"] <= 2e-3


def test_the_policy_took_steps(workshop, finished, records):
    metrics = records(finished / "metrics.jsonl")
    assert any(record["grad_norm"] > 0 for record in metrics)
    before = {name: tensor for name, tensor, _ in iterate_tensors(workshop.folder / "sft/final")}
    after = {name: tensor for name, tensor, _ in iterate_tensors(finished / "final")}
    assert before.keys() == after.keys()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert any("experts" in name for name in changed)
    assert any("vision_tower" in name for name in changed)
    load_model(finished / "final")


def test_the_run_folder_holds_what_the_contract_names(workshop, finished, records):
    config = load_config(finished / "config.yaml", RLConfig)
    assert config.iterations == 3
    assert config.rollout.engine.dtype == "float32"
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == [
        "iteration_000001",
        "iteration_000002",
        "iteration_000003",
    ]
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    tag = next(tag for tag in events.Tags()["scalars"] if tag.endswith("accuracy"))
    assert [event.step for event in events.Scalars(tag)] == [0, 1, 2]
    for iteration in range(3):
        groups = records(finished / f"transcripts/iteration_{iteration:06d}.jsonl")
        assert len(groups) == config.transcripts_per_iteration
        for group in groups:
            assert len(group["samples"]) == 4
            assert {"text", "outcome", "reward", "advantage"} <= group["samples"][0].keys()
    for name in ("before", "after"):
        summary = json.loads((finished / f"evaluation/{name}.json").read_text())
        assert summary["problems"] == 8
        assert len(records(finished / f"evaluation/{name}.jsonl")) == 8


def test_the_best_evaluated_policy_is_kept(finished, records):
    during = json.loads((finished / "evaluation/iteration_000002.json").read_text())
    logged = records(finished / "metrics.jsonl")[1]
    assert logged["evaluation/pass_at_1"] == during["pass_at_1"]
    best = json.loads((finished / "best.json").read_text())
    assert best == {"metric": "pass_at_1", "value": during["pass_at_1"], "iteration": 2}
    load_model(finished / "best")


def test_a_finished_run_is_not_run_again(workshop, finished):
    before = (finished / "metrics.jsonl").read_bytes()
    command = workshop.run(
        "kvl-rl",
        "train",
        "rl.yaml",
        "run_dir=finished",
        "evaluation.problems.path=problems/heldout.jsonl",
    )
    assert "all 3 iterations are done" in command.stdout
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_the_export_answers_as_the_trained_policy_did(workshop, finished, records):
    """vLLM loading the exported files and vLLM after three syncs are the same policy."""
    out = workshop.folder / "evaluated.json"
    command = workshop.run(
        "kvl-rl",
        "eval",
        "finished/final",
        "problems/heldout.jsonl",
        "--config",
        "rl.yaml",
        "--out",
        out,
    )
    assert "8 problems" in command.stdout
    assert json.loads(out.read_text())["problems"] == 8
    exported = {row["id"]: row["greedy"] for row in records(out.with_suffix(".jsonl"))}
    trained = {row["id"]: row["greedy"] for row in records(finished / "evaluation/after.jsonl")}
    assert exported == trained


def test_the_report_needs_no_network(workshop, finished):
    command = workshop.run("kvl-rl", "report", "finished")
    assert command.stdout.strip() == "finished/report.html"
    page = (finished / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "<svg" in page
    for reference in ('src="http', 'href="http', "@import", "url(http"):
        assert reference not in page


def test_two_learner_ranks_learn_what_one_does(workshop, records):
    """Packs are dealt out to the ranks, one of which repeats a pack at weight 0.

    With Adam's usual eps the first steps are sign steps, and where a gradient is nearly 0 rounding
    picks the sign; a large eps makes the step a smooth function of the gradient.
    """
    smooth = ("learner.optimizer.eps=1e-2", "learner.optimizer.learning_rate=1e-2")
    folders = {}
    for ranks in (1, 2):
        run_dir = f"ranks_{ranks}"
        workshop.run(
            "kvl-rl",
            "train",
            "rl.yaml",
            f"run_dir={run_dir}",
            f"learner.world_size={ranks}",
            "checkpoint_every=3",
            "ptx.problems.path=problems/short.jsonl",
            "ptx.documents=3",
            *smooth,
        )
        folders[ranks] = workshop.folder / run_dir
    one, two = (records(folders[ranks] / "metrics.jsonl") for ranks in (1, 2))
    assert len(one) == len(two) == 3
    for first, second in zip(one, two, strict=True):
        for name in ("accuracy", "samples", "sampled_tokens", "learner_tokens"):
            assert second[name] == first[name]
        for name in (
            "loss",
            "ell_mean",
            "ell_max",
            "grad_norm",
            "entropy",
            "reward_mean",
            "ptx_loss",
        ):
            assert second[name] == pytest.approx(first[name], rel=1e-3, abs=1e-6), name
    assert all(record["ptx_loss"] > 0 for record in one)
    start, after_one, after_two = (
        {name: tensor for name, tensor, _ in iterate_tensors(folder / "final")}
        for folder in (workshop.folder / "sft", folders[1], folders[2])
    )
    assert start.keys() == after_one.keys() == after_two.keys()
    moved = max(float((after_one[name] - start[name]).abs().max()) for name in start)
    apart = max(float((after_one[name] - after_two[name]).abs().max()) for name in start)
    assert moved > 1e-4
    assert apart < 1e-6


def test_partial_rollouts_go_on_under_the_next_weights(workshop, records):
    """Six tokens an iteration, twenty in all: groups wait, and what they wait with is stale."""
    workshop.run(
        "kvl-rl",
        "train",
        "rl.yaml",
        "run_dir=partial",
        "iterations=4",
        "rollout.truncated=continue",
        "rollout.max_response_tokens=6",
        "rollout.max_total_tokens=20",
        "correction.stale_tokens=mask",
    )
    metrics = records(workshop.folder / "partial/metrics.jsonl")
    assert any(record["waiting_groups"] > 0 for record in metrics)
    assert any(record["stale_share"] > 0 for record in metrics)
    for record in metrics:
        assert record["samples"] == 4 * record["problems"] > 0
        assert record["response_tokens_max"] <= 20
        assert record["masked_share"] == record["stale_share"]
        # Only tokens of the current weights are compared with the engine.
        assert record["mismatch_max"] <= 2e-3
    state = json.loads(
        (workshop.folder / "partial/checkpoints/iteration_000004/driver.json").read_text()
    )
    waiting = {rollout["problem_id"] for rollout in state["partial"]}
    assert len(waiting) == metrics[-1]["waiting_groups"]


def test_adapters_train_and_reach_the_engines_and_the_export(workshop, records):
    workshop.run(
        "kvl-rl",
        "train",
        "rl.yaml",
        "run_dir=lora",
        "iterations=2",
        "learner.lora={rank: 4, routed_experts: true}",
        "learner.optimizer.learning_rate=1e-3",
    )
    run_dir = workshop.folder / "lora"
    for record in records(run_dir / "metrics.jsonl"):
        assert 0 < record["sync_difference_max"] <= 2e-3
        assert record["mismatch_max"] <= 2e-3
    source = {name: tensor for name, tensor, _ in iterate_tensors(workshop.folder / "sft/final")}
    final = {name: tensor for name, tensor, _ in iterate_tensors(run_dir / "final")}
    moved = {name for name in source if not source[name].equal(final[name])}
    assert 0 < len(moved) < len(source)

    plain = load_model(workshop.folder / "sft/final")
    adapted = PeftModel.from_pretrained(plain, str(run_dir / "adapter"))
    merged = dict(published_tensors(persistent_state(adapted.merge_and_unload())))
    assert merged.keys() == final.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(final[name], tensor, atol=1e-6, rtol=0, msg=name)
