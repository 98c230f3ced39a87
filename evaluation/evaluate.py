"""Accuracy on a problem set, with the same rollout workers and the same grader as training."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..configs.common import ProblemSource
from ..configs.rl import GraderConfig
from ..configs.rollout import RolloutConfig
from ..configs.system.files import write_json
from ..kimi_vl_model.soundness import check_checkpoint
from ..problems.loading import load_problems
from ..problems.types import Problem, Skipped
from ..rewards.gold_fault import gold_fault
from ..rewards.grader import Grader
from ..rewards.types import Strictness
from ..rollouts.fleet import Fleet
from ..rollouts.types import RolloutFailure, SamplingSettings, StopReason
from .records import Response, recorded, write_groups
from .records_file import RecordsFile
from .sampling import Plan, graded_chunks, sample_missing
from .types import Group

# By problem id; what could not be rolled out is missing.
Responses = Mapping[str, Sequence[Response]]


def passes(
    samples: int, temperature: float, max_response_tokens: int, seed: int
) -> tuple[SamplingSettings, ...]:
    """One greedy response always, and sampled ones when `temperature` is above 0."""
    greedy = SamplingSettings(1, 0.0, max_response_tokens, seed)
    if temperature == 0:
        return (greedy,)
    return greedy, SamplingSettings(samples, temperature, max_response_tokens, seed)


def evaluate(
    fleet: Fleet,
    grader: Grader,
    problems: Sequence[Problem],
    *,
    samples: int,
    temperature: float,
    max_response_tokens: int,
    seed: int,
    rollout: RolloutConfig,
) -> tuple[dict[str, Any], list[Group]]:
    """(summary, a group for each problem) of the policy that the fleet holds."""
    started = time.monotonic()
    groups: list[Group] = []
    failures: list[RolloutFailure] = []
    asked = passes(samples, temperature, max_response_tokens, seed)
    for chunk in graded_chunks(fleet, grader, problems, asked, rollout):
        groups += chunk.groups
        failures += chunk.failures
    responses = {group.problem.id: [recorded(one) for one in group.responses] for group in groups}
    summary = summarised(problems, responses, failures, samples, temperature)
    return {**summary, "seconds": time.monotonic() - started}, groups


def summarised(
    problems: Sequence[Problem],
    responses: Responses,
    failures: Sequence[RolloutFailure],
    samples: int,
    temperature: float,
) -> dict[str, Any]:
    """Greedy accuracy always; pass@1 over sampled responses too when `temperature` is above 0.

    A problem that cannot be rolled out and a response that cannot be graded count as wrong; the
    summary says how many there are.
    """
    every = [one for own in responses.values() for one in own]
    reasons = Counter(one.stop_reason for one in every)
    drawn = samples if temperature > 0 else 0

    def scores(part: Collection[Problem]) -> dict[str, float | None]:
        return {
            "pass_at_1": _accuracy(responses, part, greedy=False) if drawn else None,
            "greedy": _accuracy(responses, part, greedy=True),
        }

    def by(key: Callable[[Problem], str]) -> dict[str, Any]:
        parts: dict[str, list[Problem]] = {}
        for problem in problems:
            parts.setdefault(key(problem), []).append(problem)
        return {
            name: {**scores(part), "problems": len(part)} for name, part in sorted(parts.items())
        }

    return {
        "problems": len(problems),
        "not_rolled_out": len({failure.problem_id for failure in failures}),
        "not_graded": sum(not one.gradable for one in every),
        "samples": drawn,
        "temperature": temperature,
        **scores(problems),
        "by_family": by(lambda problem: problem.family),
        "by_level": by(lambda problem: str(problem.level)),
        "truncated_share": reasons[StopReason.LENGTH] / max(len(every), 1),
        "repetition_share": reasons[StopReason.REPETITION] / max(len(every), 1),
        "response_tokens_mean": sum(one.tokens for one in every) / max(len(every), 1),
        "failures": [{"id": f.problem_id, "reason": f.reason} for f in failures],
    }


def _accuracy(responses: Responses, problems: Collection[Problem], *, greedy: bool) -> float | None:
    """Mean over all problems of the share of right responses."""
    right = 0.0
    for problem in problems:
        own = [one.accuracy for one in responses.get(problem.id, ()) if one.greedy is greedy]
        right += sum(own) / len(own) if own else 0.0
    return right / len(problems) if problems else None


def write_evaluation(
    folder: Path, name: str, summary: dict[str, Any], groups: Sequence[Group]
) -> None:
    """`name.json` and, before it, the records `name.jsonl` in `folder`."""
    write_groups(folder / f"{name}.jsonl", groups)
    write_json(folder / f"{name}.json", summary)


def evaluate_checkpoint(
    checkpoint: Path,
    source: ProblemSource,
    *,
    samples: int,
    temperature: float,
    rollout: RolloutConfig,
    grading: GraderConfig,
    strictness: Strictness,
    seed: int,
    out: Path | None,
) -> dict[str, Any]:
    """The `kvl-rl eval` command: prints a table, and writes `out` if given.

    The records of an `out` NAME.json are NAME.jsonl beside it, written as problems are done: the
    same command again asks only for what is missing there.

    Training is always graded strictly; a checkpoint from elsewhere may not know the thinking
    markers, so `strictness` is the caller's.

    Raises ConfigError if the records are of other settings, KVLError for problems or a checkpoint
    that cannot be used.
    """
    started = time.monotonic()
    check_checkpoint(checkpoint)
    problems, skipped = load_problems(source, gold_fault)
    asked = passes(samples, temperature, rollout.max_response_tokens, seed)
    plan = Plan(checkpoint, source.path, asked, rollout, grading, strictness)
    with TemporaryDirectory() as unwanted:
        path = Path(unwanted) / "records.json" if out is None else out.with_suffix(".json")
        settings = plan.identity(limit=source.limit, prefix=source.prefix)
        records = RecordsFile(path.with_suffix(".jsonl"), settings)
        failures = sample_missing(plan, problems, records, "evaluating", "evaluated")
        responses = {one.id: own for one in problems if (own := records.responses(one))}
    summary = {
        "checkpoint": str(checkpoint),
        "source": str(source.path),
        "policy": strictness.value,
        **summarised(problems, responses, failures, samples, temperature),
        "seconds": time.monotonic() - started,
        "skipped": [{"id": s.id, "reason": s.reason} for s in skipped],
    }
    print_evaluation(summary, skipped)
    if out is not None:
        write_json(path, summary)
        print(path)
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
    if summary["not_graded"]:
        console.print(f"{summary['not_graded']} responses could not be graded and count as wrong")
