"""From a supervised checkpoint through RL, as a job of a Ray cluster that is already there, to an
evaluated, reported export."""

from __future__ import annotations

import json
import signal

from kvl.configs.loading import load_config
from kvl.configs.rl import RLConfig
from kvl.kimi_vl_model.checkpoint import (
    iterate_tensors,
    load_model,
)
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


def test_a_submitted_job_trains_on_the_cluster_it_was_submitted_to(job, head, finished):
    assert "succeeded" in job.stdout
    actors = head.actors()
    assert {actor["class_name"] for actor in actors} >= {"LearnerRank", "RolloutWorker"}
    assert not (head.ray_folder / "ray").exists(), "the job started a private cluster"


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
            assert len(group["responses"]) == 4
            assert {"text", "outcome", "reward", "advantage"} <= group["responses"][0].keys()
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
        "evaluation.samples=2",
    )
    assert "all 3 iterations are done" in command.stdout
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_the_export_answers_as_the_trained_policy_did(workshop, head, finished, records):
    """vLLM loading the exported files and vLLM after three syncs are the same policy."""
    out = workshop.folder / "evaluated.json"
    command = workshop.run(
        *("kvl-rl", "eval", "finished/final", "problems/heldout.jsonl"),
        *("--config", "rl.yaml", "--out", out),
        RAY_ADDRESS=head.address,
        RAY_AUTH_MODE="disabled",
    )
    assert "8 problems" in command.stdout
    assert {actor["state"] for actor in head.actors()} == {"DEAD"}
    assert json.loads(out.read_text())["problems"] == 8
    files = (out.with_suffix(".jsonl"), finished / "evaluation/after.jsonl")
    exported, trained = ({row["id"]: greedy(row) for row in records(file)} for file in files)
    assert exported == trained


def greedy(row):
    """Without what differs: the weights have another number."""
    (response,) = (one for one in row["responses"] if one["temperature"] == 0)
    return {name: value for name, value in response.items() if name != "versions"}


def test_the_report_needs_no_network(workshop, finished):
    command = workshop.run("kvl-rl", "report", "finished")
    assert command.stdout.strip() == "finished/report.html"
    page = (finished / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "<svg" in page
    for reference in ('src="http', 'href="http', "@import", "url(http"):
        assert reference not in page


def test_nothing_of_the_cluster_is_left(head, finished):
    """Comes last: what the job and the evaluation started on it ends with it at the latest."""
    head.command.signal(signal.SIGTERM)
    head.command.process.wait(60)
    assert head.command.left_over() == []
