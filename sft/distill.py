"""`kvl-sft distill`: a training set out of the policy's own verified responses.

Rejection sampling (Kimi k1.5 §2.2) and two of the long2short methods (§2.4): shortest correct
response, and preference pairs for DPO. Sampling and choosing are apart: responses go to
the records `OUT.samples.jsonl` as problems are done, rows are chosen from there at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from ..configs.common import ProblemSource
from ..configs.errors import ConfigError
from ..configs.rl import GraderConfig
from ..configs.rollout import RolloutConfig
from ..configs.system.files import atomic_file
from ..evaluation.records import Response, pass_rate
from ..evaluation.records_file import RecordsFile
from ..evaluation.sampling import Plan, sample_missing
from ..kimi_vl_model.soundness import check_checkpoint
from ..problems.jsonl import records_of
from ..problems.loading import load_problems
from ..problems.types import Problem
from ..rewards.gold_fault import gold_fault
from ..rollouts.types import SamplingSettings
from .distill_selection import demonstration, diverse, shortest, usable
from .preference import preference_rows

Keep = Literal["shortest", "diverse"]
Format = Literal["sft", "dpo"]

# Of the settings of the records, what every row says of where it comes from.
_PROVENANCE = ("checkpoint", "samples", "temperature", "max_response_tokens", "seed")


@dataclass(frozen=True, slots=True)
class Choice:
    """What becomes of a problem's responses. `most` limits `diverse` per problem."""

    format: Format
    keep: Keep
    most: int


def distill(
    checkpoint: Path,
    source: ProblemSource,
    out: Path,
    settings: SamplingSettings,
    choice: Choice,
    rollout: RolloutConfig,
    grading: GraderConfig,
) -> Path:
    """Sample, grade, keep; the same command again goes on where a killed one stopped.

    Raises CheckpointError for a damaged checkpoint, ConfigError for an `out` that would overwrite
    something else and for records of other settings, ProblemError without a usable problem, and
    WorkerError when a rollout worker died.
    """
    path = out.with_suffix(".samples.jsonl")
    if out.exists() and not path.exists():
        raise ConfigError(f"--out {out}: exists and was not written by distill; choose another")
    check_checkpoint(checkpoint)
    problems, skipped = load_problems(source, gold_fault)
    plan = Plan(checkpoint, source.path, (settings,), rollout, grading)
    held = plan.identity()
    records = RecordsFile(path, held)
    failures = sample_missing(plan, problems, records, "sampling", "sampled")
    sampled = [(p, responses) for p in problems if (responses := records.responses(p)) is not None]
    provenance = {name: held.settings[name] for name in _PROVENANCE}
    provenance |= {
        "weights": held.contents["checkpoint"],
        "kvl_version": version("kimi-vl-thinking"),
    }
    rows = list(chosen_rows(sampled, source.path, out, choice, provenance))
    _write(rows, out)
    console = Console(soft_wrap=True)
    for skip in skipped:
        console.print(f"skipped {skip.id}: {skip.reason}", markup=False)
    for failure in failures:
        console.print(f"not sampled {failure.problem_id}: {failure.reason}", markup=False)
    console.print(summary(sampled, rows, choice), markup=False)
    console.print(str(out), markup=False)
    return out


def chosen_rows(
    sampled: Sequence[tuple[Problem, Sequence[Response]]],
    source: Path,
    out: Path,
    choice: Choice,
    origin: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """The rows of `out`: per chosen response the problem's own record with the response as its
    solution, or per pair one of `preference_rows`; either with its `origin`."""
    kept = [(problem, responses) for problem, responses in sampled if any(map(usable, responses))]
    records = records_of([problem for problem, _ in kept], source, out)
    for (problem, responses), record in zip(kept, records, strict=True):
        provenance = {**origin, "pass_rate": pass_rate(responses)}
        if choice.format == "dpo":
            folder = out.parent.absolute()
            images = [str(Path(os.path.abspath(folder / name))) for name in record["images"] or ()]
            for pair in preference_rows(problem, responses, images):
                yield pair | provenance
            continue
        for response in _kept(responses, choice):
            written = demonstration(problem, response)
            yield {
                **record,
                "id": f"{problem.id}#{response.sample}",
                "solution": written.solution,
                "conclusion": written.conclusion,
                "problem_id": problem.id,
                "sample": response.sample,
                "tokens": response.tokens,
                **provenance,
            }


def _kept(responses: Sequence[Response], choice: Choice) -> list[Response]:
    if choice.keep == "diverse":
        return diverse(responses, choice.most)
    best = shortest(responses)
    return [] if best is None else [best]


def summary(
    sampled: Sequence[tuple[Problem, Sequence[Response]]],
    rows: Sequence[dict[str, Any]],
    choice: Choice,
) -> str:
    """One line: how many rows from how many problems, and why the others gave none."""
    solved = [r for _, r in sampled if any(response.accuracy for response in r)]
    exact = [r for r in solved if any(map(usable, r))]
    made = len({row["problem_id"] for row in rows})
    kind = "pairs" if choice.format == "dpo" else "rows"
    parts = [
        f"{len(rows)} {kind} from {made} of {len(sampled)} problems",
        f"{len(sampled) - len(solved)} without a correct sample",
    ]
    if inexact := len(solved) - len(exact):
        parts.append(f"{inexact} correct only in an inexact format")
    if unpaired := len(exact) - made:
        parts.append(f"{unpaired} without a longer response to reject")
    return "; ".join(parts)


def _write(rows: Sequence[dict[str, Any]], out: Path) -> None:
    with atomic_file(out) as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)
