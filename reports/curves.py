"""Which charts the report draws from which numbers of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..run_files.metrics_file import Record, read_lines
from ..run_files.stages import ITERATION_STAGES, seconds_in
from .charts import Chart, Series, bar_chart, line_chart, stacked_chart


def curves(
    records: Sequence[Record], evaluations: Mapping[str, Record], tolerance: float | None
) -> list[Chart]:
    """One chart per aspect of the training that was recorded at least once."""
    if not records:
        return []
    steps = [record["iteration"] for record in records]

    def line(label: str, name: str) -> Series:
        return Series(label, [record.get(name) for record in records])

    def chart(title: str, *lines: Series, **options: Any) -> Chart | None:
        return line_chart(title, steps, lines, **options)

    charts = (
        chart(
            "Accuracy",
            line("training problems", "accuracy"),
            _held_out(records, evaluations),
            percent=True,
        ),
        chart("Reward", line("mean", "reward_mean")),
        chart(
            "Response length, tokens",
            line("mean", "response_tokens_mean"),
            line("longest", "response_tokens_max"),
        ),
        chart("Entropy, nats per token", line("mean", "entropy")),
        chart(
            "ℓ = log π(y) − log πᵢ(y), per response",
            line("mean", "ell_mean"),
            line("largest", "ell_max"),
        ),
        chart(
            "Engine–learner log-prob difference",
            line("largest", "mismatch_max"),
            line("mean", "mismatch_mean"),
            line("after sync", "sync_difference_max"),
            log=True,
            limit=("tolerance", tolerance) if tolerance else None,
        ),
        chart(
            "Tokens that engine and learner route differently",
            line("of all (token, layer) pairs", "routing_disagreement"),
            percent=True,
        ),
        chart(
            "Groups without a signal",
            line("all right", "groups_all_right"),
            line("all wrong", "groups_all_wrong"),
            percent=True,
        ),
        chart(
            "Responses cut, unanswered, ungradable",
            line("cut by the cap", "truncated_share"),
            line("repeated itself", "repetition_share"),
            line("no answer", "no_answer_share"),
            line("not gradable", "invalid_share"),
            percent=True,
        ),
        chart("Gradient norm", line("before clipping", "grad_norm")),
        stacked_chart(
            "Seconds per iteration",
            steps,
            {stage: line(stage, seconds_in(stage)).values for stage in ITERATION_STAGES},
        ),
        chart(
            "Tokens per second",
            line("rollout", "rollout_tokens_per_second"),
            line("learner", "learner_tokens_per_second"),
        ),
        chart("Tokens per correct answer", line("tokens", "tokens_per_correct")),
    )
    return [chart for chart in charts if chart is not None]


def _held_out(records: Sequence[Record], evaluations: Mapping[str, Record]) -> Series:
    """pass@1 on held-out problems over the number of iterations done when it was measured."""
    measured = {
        record["iteration"] + 1: record.get("evaluation/pass_at_1")
        for record in records
        if record.get("evaluation/pass_at_1") is not None
    }
    for name, done in (("before", 0), ("after", records[-1]["iteration"] + 1)):
        if name in evaluations:
            measured[done] = evaluations[name].get("pass_at_1")
    return Series("held-out problems", list(measured.values()), steps=list(measured))


def breakdowns(evaluations: Mapping[str, Record]) -> list[Chart]:
    """Bars of the accuracy before and after, by family and by level."""
    # An evaluation at temperature 0 has no sampled accuracy.
    sampled = any(summary.get("pass_at_1") is not None for summary in evaluations.values())
    score, label = ("pass_at_1", "pass@1") if sampled else ("greedy", "greedy accuracy")
    charts = []
    for title, key, prefix in (
        (f"{label} by family", "by_family", ""),
        (f"{label} by level", "by_level", "level "),
    ):
        parts = {name: summary.get(key) or {} for name, summary in evaluations.items()}
        names = sorted({str(name) for part in parts.values() for name in part})
        values = {
            when: [(part.get(name) or {}).get(score) for name in names]
            for when, part in parts.items()
        }
        shown = [prefix + name.replace("_", " ") for name in names]
        charts.append(bar_chart(title, shown, values))
    return [chart for chart in charts if chart is not None]


def sft_loss(folders: Sequence[Path]) -> Chart | None:
    """The loss curve of the supervised stage, from the first folder that holds its metrics."""
    for folder in folders:
        lines = [
            line
            for line in read_lines(folder / "metrics.jsonl")
            if isinstance(line.get("step"), int) and isinstance(line.get("loss"), int | float)
        ]
        if lines:
            losses = Series("loss", [line["loss"] for line in lines])
            steps = [line["step"] for line in lines]
            return line_chart("Loss by optimizer step", steps, [losses], wide=True)
    return None
