"""The metrics of an iteration are what its transcripts say."""

from __future__ import annotations

import json
from statistics import mean

import pytest


def test_metrics_are_the_transcripts_counted(tiny, tmp_path):
    run = tmp_path / "run"
    settings = ("rollout.samples_per_problem=8", "transcripts_per_iteration=9")
    tiny.train(run, "iterations=2", *settings)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for iteration, record in enumerate(metrics):
        path = run / f"transcripts/iteration_{iteration:06d}.jsonl"
        groups = [json.loads(line) for line in path.read_text().splitlines()]
        samples = [sample for group in groups for sample in group["responses"]]
        right = [
            [one["outcome"] == "correct" and one["stop_reason"] == "stop" for one in g["responses"]]
            for g in groups
        ]
        tokens = [sample["tokens"] for sample in samples]
        correct = sum(map(sum, right))
        assert record["accuracy"] == correct / len(samples)
        assert record["groups_all_right"] == mean(map(all, right))
        assert record["groups_all_wrong"] == mean(not any(one) for one in right)
        assert record["sampled_tokens"] == sum(tokens)
        assert record["response_tokens_mean"] == pytest.approx(mean(tokens))
        assert record["response_tokens_max"] == max(tokens)
        assert record["truncated_share"] == share(samples, "stop_reason", "length")
        assert record["repetition_share"] == share(samples, "stop_reason", "repetition") == 0
        assert record["no_answer_share"] == share(samples, "outcome", "no_answer")
        assert record["reward_mean"] == pytest.approx(mean(one["reward"] for one in samples))
        for part in ("accuracy", "length"):
            parts = [sample["parts"].get(part, 0.0) for sample in samples]
            assert record[f"reward/{part}"] == pytest.approx(mean(parts))
        wrong = [g["responses"] for g, one in zip(groups, right, strict=True) if not any(one)]
        paid = [len({one["parts"].get("length") for one in samples}) > 1 for samples in wrong]
        assert record["length_reward_in_all_wrong"] == pytest.approx(sum(paid) / len(groups))
        expected = sum(tokens) / correct if correct else None
        assert record["tokens_per_correct"] == pytest.approx(expected)
    # The taught model is right now and then, and ends most of its responses: there was something
    # to count.
    for name in ("accuracy", "truncated_share", "no_answer_share", "groups_all_wrong"):
        assert any(0 < record[name] < 1 for record in metrics), name


def share(samples, name, value):
    return sum(sample[name] == value for sample in samples) / len(samples)
