"""Kinds of training runs, on the engine that the tests share."""

from __future__ import annotations

import json

import torch
from kvl.kimi_vl_model.checkpoint import (
    iterate_tensors,
    load_model,
    persistent_state,
    published_tensors,
)
from peft import PeftModel


def test_partial_rollouts_go_on_under_the_next_weights(workshop, inside, records):
    """Six tokens an iteration, twenty in all: groups wait, and what they wait with is stale."""
    inside(
        *("kvl-rl", "train", "rl.yaml", "run_dir=partial", "iterations=4"),
        *("rollout.truncated=continue", "rollout.max_response_tokens=6"),
        *("rollout.max_total_tokens=20", "correction.stale_tokens=mask"),
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


def test_adapters_train_and_reach_the_engines_and_the_export(workshop, inside, records):
    inside(
        *("kvl-rl", "train", "rl.yaml", "run_dir=lora", "iterations=2"),
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


def test_an_engine_that_disagrees_with_the_learner_stops_the_run(workshop, inside):
    """Rounding alone exceeds this tolerance, as wrong weights exceed the usual one."""
    ended = inside(
        *("kvl-rl", "train", "rl.yaml", "run_dir=disagreeing", "mismatch_tolerance=1e-12"),
        code=2,
    )
    (line,) = ended.stderr.splitlines()
    assert line.startswith(
        "error: sync 0: engine and learner log-probs of sampled tokens differ by "
    )
    assert not (workshop.folder / "disagreeing/metrics.jsonl").exists()
