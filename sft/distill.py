"""`kvl-sft distill`: a training set out of the policy's own verified responses.

Rejection sampling (Kimi k1.5 §2.2) and two of the long2short methods (§2.4): shortest correct
response, and preference pairs for DPO. Sampling and choosing are apart: responses go to
`OUT.samples.jsonl` as problems are done, rows are chosen from there at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from ..configs.common import ProblemSource
from ..configs.errors import ConfigError
from ..configs.files import atomic_file
from ..configs.rl import GraderConfig
from ..configs.rollout import RolloutConfig
from ..evaluation.grading import grade_rollouts
from ..evaluation.rate import in_chunks
from ..kimi_vl_model.soundness import check_checkpoint
from ..problems.jsonl import records_of
from ..problems.loading import load_problems
from ..problems.types import Problem
from ..rewards.grader import Grader
from ..rollouts.fleet import Fleet
from ..rollouts.types import RolloutFailure, SamplingSettings
from .distill_samples import SamplesFile, Source, weights_digest
from .distill_selection import Response, demonstration, diverse, pass_rate, shortest
from .preference import preference_rows

Keep = Literal["shortest", "diverse"]
Format = Literal["sft", "dpo"]


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
    something else, ProblemError without a usable problem, KVLError for a samples file of another
    source and WorkerError when a rollout worker died.
    """
    samples_path = out.with_suffix(".samples.jsonl")
    if out.exists() and not samples_path.exists():
        raise ConfigError(f"--out {out}: exists and was not written by distill; choose another")
    check_checkpoint(checkpoint)
    problems, skipped = load_problems(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    origin = Source(
        checkpoint=str(checkpoint.absolute()),
        weights=weights_digest(checkpoint),
        samples=settings.samples,
        temperature=settings.temperature,
        max_response_tokens=settings.max_response_tokens,
        seed=settings.seed or 0,
    )
    samples = SamplesFile(samples_path, origin)
    failures = _sample_rest(checkpoint, problems, samples, settings, rollout, grading)
    sampled = [(p, responses) for p in problems if (responses := samples.responses(p)) is not None]
    rows = [
        row | {"kvl_version": version("kimi-vl-thinking")}
        for row in chosen_rows(sampled, source.path, out, choice, origin)
    ]
    _write(rows, out)
    console = Console(soft_wrap=True)
    for skip in skipped:
        console.print(f"skipped {skip.id}: {skip.reason}", markup=False)
    for failure in failures:
        console.print(f"not sampled {failure.problem_id}: {failure.reason}", markup=False)
    console.print(summary(sampled, rows, choice), markup=False)
    console.print(str(out), markup=False)
    return out


def _sample_rest(
    checkpoint: Path,
    problems: Sequence[Problem],
    samples: SamplesFile,
    settings: SamplingSettings,
    rollout: RolloutConfig,
    grading: GraderConfig,
) -> list[RolloutFailure]:
    """Sample what the file lacks, starting an engine only if there is something."""
    missing = [problem for problem in problems if samples.responses(problem) is None]
    failures: list[RolloutFailure] = []
    if not missing:
        return failures
    if len(missing) < len(problems):
        done = len(problems) - len(missing)
        line = f"{samples.path}: {done} of {len(problems)} problems are already sampled"
        Console(stderr=True).print(line, markup=False, soft_wrap=True)
    with (
        Fleet(checkpoint, rollout, seed=settings.seed or 0) as fleet,
        Grader(grading.workers, grading.timeout_seconds) as grader,
    ):
        for chunk in in_chunks(fleet, missing, settings, rollout, "sampling"):
            samples.append(grade_rollouts(grader, chunk.problems, chunk.rollouts))
            failures += chunk.failures
    return failures


def chosen_rows(
    sampled: Sequence[tuple[Problem, Sequence[Response]]],
    source: Path,
    out: Path,
    choice: Choice,
    origin: Source,
) -> Iterator[dict[str, Any]]:
    """The rows of `out`: per chosen response the problem's own record with the response as its
    solution, or per pair one of `preference_rows`; either with its provenance."""
    kept = [
        (problem, responses)
        for problem, responses in sampled
        if any(response.usable for response in responses)
    ]
    records = records_of([problem for problem, _ in kept], source, out)
    for (problem, responses), record in zip(kept, records, strict=True):
        provenance = {**asdict(origin), "pass_rate": pass_rate(responses)}
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
    solved = [r for _, r in sampled if any(response.correct for response in r)]
    usable = [r for r in solved if any(response.usable for response in r)]
    made = len({row["problem_id"] for row in rows})
    kind = "pairs" if choice.format == "dpo" else "rows"
    parts = [
        f"{len(rows)} {kind} from {made} of {len(sampled)} problems",
        f"{len(sampled) - len(solved)} without a correct sample",
    ]
    if inexact := len(solved) - len(usable):
        parts.append(f"{inexact} correct only in an inexact format")
    if unpaired := len(usable) - made:
        parts.append(f"{unpaired} without a longer response to reject")
    return "; ".join(parts)


def _write(rows: Sequence[dict[str, Any]], out: Path) -> None:
    with atomic_file(out) as file:
        file.writelines(f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows)
