"""Accuracy on a problem set, with the same rollout workers and the same grader as training."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..configs.common import ProblemSource
from ..configs.files import write_atomically, write_json
from ..configs.rl import GraderConfig
from ..configs.rollout import RolloutConfig
from ..kimi_vl_model.soundness import check_checkpoint
from ..problems.loading import load_problems
from ..problems.types import Problem, Skipped
from ..rewards.grader import Grader
from ..rewards.types import Policy
from ..rollouts.fleet import Fleet
from ..rollouts.types import RolloutFailure, SamplingSettings, StopReason
from .grading import grade_rollouts
from .records import group_record
from .types import Group


def evaluate(
    fleet: Fleet,
    grader: Grader,
    problems: Sequence[Problem],
    *,
    samples: int,
    temperature: float,
    max_response_tokens: int,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, list[Group]]]:
    """(summary, groups by kind: greedy and sampled). Greedy accuracy always; pass@1 over sampled
    responses too when `temperature` is above 0.

    A problem that cannot be rolled out and a response that cannot be graded count as wrong; the
    summary says how many there are.
    """
    started = time.monotonic()
    runs: dict[str, list[Group]] = {}
    failures: dict[str, RolloutFailure] = {}
    tokens: list[int] = []
    reasons: Counter[StopReason] = Counter()
    settings = {"greedy": SamplingSettings(1, 0.0, max_response_tokens, seed)}
    if temperature > 0:
        settings["sampled"] = SamplingSettings(samples, temperature, max_response_tokens, seed)
    for kind, how in settings.items():
        progress(f"evaluating {len(problems)} problems ({kind})")
        rollouts, failed = fleet.generate(problems, how)
        failures |= {failure.problem_id: failure for failure in failed}
        runs[kind] = grade_rollouts(grader, problems, rollouts)
        tokens += [len(rollout.response_token_ids) for rollout in rollouts]
        reasons.update(rollout.stop_reason for rollout in rollouts)
    summary: dict[str, Any] = {
        "problems": len(problems),
        "not_rolled_out": len(failures),
        "not_graded": sum(
            not one.verdict.gradable
            for run in runs.values()
            for group in run
            for one in group.responses
        ),
        "samples": samples if temperature > 0 else 0,
        "temperature": temperature,
        **_scores(runs, problems),
        "by_family": _by(runs, problems, lambda problem: problem.family),
        "by_level": _by(runs, problems, lambda problem: str(problem.level)),
        "truncated_share": reasons[StopReason.LENGTH] / max(len(tokens), 1),
        "repetition_share": reasons[StopReason.REPETITION] / max(len(tokens), 1),
        "response_tokens_mean": sum(tokens) / max(len(tokens), 1),
        "failures": [{"id": f.problem_id, "reason": f.reason} for f in failures.values()],
        "seconds": time.monotonic() - started,
    }
    return summary, runs


def _scores(
    runs: Mapping[str, Sequence[Group]], problems: Collection[Problem]
) -> dict[str, float | None]:
    """Mean over all problems of the share of right responses."""
    asked = {problem.id for problem in problems}
    scores: dict[str, float | None] = {}
    for kind, name in (("sampled", "pass_at_1"), ("greedy", "greedy")):
        right = [
            sum(one.accuracy for one in group.responses) / len(group.responses)
            for group in runs.get(kind, ())
            if group.problem.id in asked
        ]
        scores[name] = sum(right) / len(asked) if kind in runs and asked else None
    return scores


def _by(
    runs: Mapping[str, Sequence[Group]],
    problems: Sequence[Problem],
    key: Callable[[Problem], str],
) -> dict[str, Any]:
    parts: dict[str, list[Problem]] = {}
    for problem in problems:
        parts.setdefault(key(problem), []).append(problem)
    return {
        name: {**_scores(runs, part), "problems": len(part)} for name, part in sorted(parts.items())
    }


def _rows(runs: Mapping[str, Sequence[Group]], folder: Path) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for kind, run in runs.items():
        for group in run:
            record = group_record(group, folder)
            responses = record.pop("responses")
            row = rows.setdefault(group.problem.id, {**record, "samples": []})
            row.update({"greedy": responses[0]} if kind == "greedy" else {"samples": responses})
    return list(rows.values())


def write_evaluation(
    folder: Path, name: str, summary: dict[str, Any], runs: Mapping[str, Sequence[Group]]
) -> Path:
    """`name.json` and `name.jsonl` in `folder`."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(runs, folder)]
    write_atomically(folder / f"{name}.jsonl", "".join(lines))
    path = folder / f"{name}.json"
    write_json(path, summary)
    return path


def evaluate_checkpoint(
    checkpoint: Path,
    source: ProblemSource,
    *,
    samples: int,
    temperature: float,
    rollout: RolloutConfig,
    grading: GraderConfig,
    policy: Policy,
    seed: int,
    out: Path | None,
) -> dict[str, Any]:
    """The `kvl-rl eval` command: prints a table, writes `out` (and rows beside it) if given.

    Training is always graded by the strict policy; a checkpoint from elsewhere may not know the
    thinking markers, so `policy` is the caller's.
    """
    check_checkpoint(checkpoint)
    problems, skipped = load_problems(source)
    with (
        Fleet(checkpoint, rollout, seed=seed) as fleet,
        Grader(grading.workers, grading.timeout_seconds, policy) as grader,
    ):
        summary, runs = evaluate(
            fleet,
            grader,
            problems,
            samples=samples,
            temperature=temperature,
            max_response_tokens=rollout.max_response_tokens,
            seed=seed,
            progress=print,
        )
    summary = {
        "checkpoint": str(checkpoint),
        "source": str(source.path),
        "policy": policy.value,
        **summary,
    }
    summary["skipped"] = [{"id": s.id, "reason": s.reason} for s in skipped]
    print_evaluation(summary, skipped)
    if out is not None:
        print(write_evaluation(out.parent, out.stem, summary, runs))
    return summary


def print_evaluation(summary: dict[str, Any], skipped: Sequence[Skipped] = ()) -> None:
    """A table by family and level; every problem that was not rolled out, with its reason."""
    from rich.console import Console
    from rich.table import Table

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f} %"

    table = Table(title=f"{summary.get('checkpoint', 'policy')}: {summary['problems']} problems")
    for column in ("", "problems", "pass@1", "greedy"):
        table.add_column(column, justify="left" if not column else "right")
    for title, group in (("family", summary["by_family"]), ("level", summary["by_level"])):
        for name, scores in group.items():
            table.add_row(
                f"{title} {name}",
                str(scores["problems"]),
                percent(scores["pass_at_1"]),
                percent(scores["greedy"]),
            )
    table.add_section()
    table.add_row(
        "all", str(summary["problems"]), percent(summary["pass_at_1"]), percent(summary["greedy"])
    )
    console = Console()
    console.print(table)
    for skip in skipped:
        console.print(f"skipped {skip.id}: {skip.reason}", markup=False)
    for failure in summary["failures"]:
        console.print(f"not rolled out {failure['id']}: {failure['reason']}", markup=False)
