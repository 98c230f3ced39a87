"""The stages of a run, which the terminal, metrics.jsonl and the report name alike."""

from __future__ import annotations

from typing import Literal

Stage = Literal["start", "rollout", "grade", "reference", "learn", "sync", "evaluate", "checkpoint"]

# Those of every iteration; the others come now and then and would hide them in a chart.
ITERATION_STAGES: tuple[Stage, ...] = ("rollout", "grade", "reference", "learn", "sync")


def seconds_in(stage: Stage | Literal["total"]) -> str:
    """The metric that holds the seconds of a stage in an iteration, or of all of it."""
    return f"seconds_{stage}"
