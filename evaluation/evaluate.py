"""Accuracy on a problem set, with the same rollout workers and the same grader as training."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs.common import ProblemSource
from ..configs.files import write_atomically, write_json
from ..configs.rl import RewardConfig
from ..configs.rollout import RolloutConfig
from ..kimi_vl_model.weights_check import check_weights
from ..problems.loading import load_problems
from ..problems.types import Problem, Skipped
from ..rewards.grader import Grader
from ..rewards.types import GradeRequest, Policy, Verdict
from ..rl.types import raw_accuracy
from ..rollouts.fleet import Fleet
from ..rollouts.types import Rollout, RolloutFailure, SamplingSettings, StopReason


@dataclass(frozen=True, slots=True)
class Answered:
    """One problem with its responses and their verdicts, in parallel tuples."""

    problem: Problem
    rollouts: tuple[Rollout, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Raw correctness of the gradable samples."""
        return tuple(
            raw_accuracy(rollout, verdict)
            for rollout, verdict in zip(self.rollouts, self.verdicts, strict=True)
            if verdict.gradable
        )

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among gradable samples; None when there is none."""
        graded = self.accuracies
        return sum(graded) / len(graded) if graded else None


def grade_rollouts(
    grader: Grader, problems: Sequence[Problem], rollouts: Sequence[Rollout]
) -> list[Answered]:
    """Rollouts by problem, in the order of `problems`, each with its verdict."""
    by_id = {problem.id: problem for problem in problems}
    verdicts = grader.grade(
        [
            GradeRequest(
                response=rollout.text,
                answer=by_id[rollout.problem_id].answer,
                answer_type=by_id[rollout.problem_id].answer_type,
                options=by_id[rollout.problem_id].options,
            )
            for rollout in rollouts
        ]
    )
    gathered: dict[str, list[tuple[Rollout, Verdict]]] = {problem.id: [] for problem in problems}
    for rollout, verdict in zip(rollouts, verdicts, strict=True):
        gathered[rollout.problem_id].append((rollout, verdict))
    answered = []
    for problem in problems:
        pairs = sorted(gathered[problem.id], key=lambda pair: pair[0].sample)
        if pairs:
            own_rollouts, own_verdicts = zip(*pairs, strict=True)
            answered.append(Answered(problem, own_rollouts, own_verdicts))
    return answered


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
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(summary, one row per problem). Greedy accuracy always; pass@1 over sampled responses
    too when `temperature` is above 0."""
    started = time.monotonic()
    runs: dict[str, list[Answered]] = {}
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
        "problems": len(problems) - len(failures),
        "samples": samples if temperature > 0 else 0,
        "temperature": temperature,
        **_scores(runs),
        "by_family": _by(runs, lambda problem: problem.family),
        "by_level": _by(runs, lambda problem: str(problem.level)),
        "truncated_share": reasons[StopReason.LENGTH] / max(len(tokens), 1),
        "repetition_share": reasons[StopReason.REPETITION] / max(len(tokens), 1),
        "response_tokens_mean": sum(tokens) / max(len(tokens), 1),
        "failures": [{"id": f.problem_id, "reason": f.reason} for f in failures.values()],
        "seconds": time.monotonic() - started,
    }
    return summary, _rows(runs)


def _scores(runs: dict[str, list[Answered]]) -> dict[str, float | None]:
    """Mean per-problem accuracy; problems without a gradable sample do not count."""
    scores = {}
    for kind, name in (("sampled", "pass_at_1"), ("greedy", "greedy")):
        values = [a.accuracy for a in runs.get(kind, ()) if a.accuracy is not None]
        scores[name] = sum(values) / len(values) if values else None
    return scores


def _by(runs: dict[str, list[Answered]], key: Callable[[Problem], str]) -> dict[str, Any]:
    names = sorted({key(answered.problem) for answered in runs["greedy"]})
    table = {}
    for name in names:
        part = {
            kind: [answered for answered in run if key(answered.problem) == name]
            for kind, run in runs.items()
        }
        table[name] = {**_scores(part), "problems": len(part["greedy"])}
    return table


def sample_row(rollout: Rollout, verdict: Verdict) -> dict[str, Any]:
    return {
        "text": rollout.text,
        "outcome": verdict.outcome.value,
        "extracted": verdict.extracted,
        "stop_reason": rollout.stop_reason.value,
        "tokens": len(rollout.response_token_ids),
    }


def _rows(runs: dict[str, list[Answered]]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for kind, run in runs.items():
        for answered in run:
            problem = answered.problem
            row = rows.setdefault(
                problem.id,
                {
                    "id": problem.id,
                    "family": problem.family,
                    "level": problem.level,
                    "question": problem.question,
                    "options": list(problem.options),
                    "images": [str(image.path) for image in problem.images if image.path],
                    "answer": problem.answer,
                    "samples": [],
                },
            )
            drawn = [
                sample_row(rollout, verdict)
                for rollout, verdict in zip(answered.rollouts, answered.verdicts, strict=True)
            ]
            row.update({"greedy": drawn[0]} if kind == "greedy" else {"samples": drawn})
    return list(rows.values())


def write_evaluation(
    folder: Path, name: str, summary: dict[str, Any], rows: Sequence[dict[str, Any]]
) -> Path:
    """`name.json` and `name.jsonl` in `folder`."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
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
    reward: RewardConfig,
    policy: Policy,
    seed: int,
    out: Path | None,
) -> dict[str, Any]:
    """The `kvl-rl eval` command: prints a table, writes `out` (and rows beside it) if given.

    Training is always graded by the strict policy; a checkpoint from elsewhere may not know the
    thinking markers, so `policy` is the caller's.
    """
    check_weights(checkpoint)
    problems, skipped = load_problems(source)
    with (
        Fleet(checkpoint, rollout, seed=seed) as fleet,
        Grader(reward.grader_workers, reward.grader_timeout_seconds, policy) as grader,
    ):
        summary, rows = evaluate(
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
        print(write_evaluation(out.parent, out.stem, summary, rows))
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
