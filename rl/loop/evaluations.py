"""Evaluation during training, and the best policy so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...configs.rl import RLConfig
from ...evaluation.evaluate import evaluate, write_evaluation
from ...problems.types import Problem
from ...rewards.grader import Grader
from ...rollouts.fleet import Fleet
from ...run_files.evaluations import best_of, note_best
from ..learner.learner_group import LearnerGroup


def evaluate_policy(
    config: RLConfig,
    fleet: Fleet,
    grader: Grader,
    problems: Sequence[Problem],
    iteration: int,
    name: str,
) -> dict[str, float]:
    """Accuracy on the held-out problems; skipped when that evaluation was already written."""
    folder = config.run_dir / "evaluation"
    if config.evaluation is None or (folder / f"{name}.json").is_file():
        return {}
    summary, groups = evaluate(
        fleet,
        grader,
        problems,
        samples=config.evaluation.samples,
        temperature=config.evaluation.temperature,
        max_response_tokens=config.rollout.max_total_tokens or config.rollout.max_response_tokens,
        seed=config.seed,
        rollout=config.rollout,
    )
    write_evaluation(folder, name, {"iteration": iteration, **summary}, groups)
    scores = (summary[key] for key in ("pass_at_1", "greedy"))
    names = ("evaluation/pass_at_1", "evaluation/greedy")
    return {name: score for name, score in zip(names, scores, strict=True) if score is not None}


def keep_best(
    config: RLConfig, learner: LearnerGroup, done: int, metrics: Mapping[str, float]
) -> None:
    """Export the policy to `run_dir/best` if its evaluation beats every earlier one's."""
    name = config.evaluation.keep_best if config.evaluation else None
    value = metrics.get(f"evaluation/{name}")
    if name is None or value is None:
        return
    best = best_of(config.run_dir)
    if best is not None and best["metric"] == name and best["value"] >= value:
        return
    folder = config.run_dir.absolute()
    learner.export(folder / "best", folder / "best_adapter")
    note_best(config.run_dir, name, value, done)
