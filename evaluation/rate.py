"""`kvl-rl rate`: how often a checkpoint solves each problem, as a column of the problem file."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..configs.common import ProblemSource
from ..configs.errors import ConfigError
from ..configs.files import write_json
from ..configs.rl import GraderConfig
from ..configs.rollout import RolloutConfig
from ..kimi_vl_model.soundness import check_checkpoint
from ..problems.jsonl import records_of
from ..problems.loading import load_problems
from ..problems.types import Problem
from ..rewards.grader import Grader
from ..rollouts.fleet import Fleet
from ..rollouts.types import Rollout, RolloutFailure, SamplingSettings
from .grade_file import encoded
from .grading import grade_rollouts

# A chunk is this many times what the engines hold at once: few enough to lose little to a kill.
ENGINE_LOADS_PER_CHUNK = 2
# While the last responses of one chunk are sampled, the next one fills the engines.
CHUNKS_IN_FLIGHT = 2
BINS = (
    (0.0, "never right"),
    (0.5, "up to half"),
    (0.9999, "more than half"),
    (1.0, "always right"),
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of the problems with everything that was sampled for them."""

    problems: Sequence[Problem]
    rollouts: list[Rollout]
    failures: list[RolloutFailure]


def rate_file(
    checkpoint: Path,
    source: Path,
    out: Path,
    *,
    samples: int,
    temperature: float,
    rollout: RolloutConfig,
    grading: GraderConfig,
) -> None:
    """Write every usable row of `source` to `out` with its `pass_rate`: the share of `samples`
    responses at `temperature` that the training grader finds right, null if none was gradable.

    Rows come in file order, a chunk at a time, each safe on disk as soon as it is graded. The
    same command again rates what is missing; a line that a kill cut short is dropped. Settings and
    what was left out are in `OUT.json`. A response cut by the token cap is wrong.

    Raises ConfigError if `out` holds other ratings, KVLError for problems or a checkpoint that
    cannot be used.
    """
    console = Console()
    if out.suffix != ".jsonl" or (out.exists() and source.exists() and out.samefile(source)):
        raise ConfigError(f"--out {out}: must be a .jsonl file other than the input")
    check_checkpoint(checkpoint)
    problems, skipped = load_problems(ProblemSource(path=source))
    settings = {
        "checkpoint": str(checkpoint.absolute()),
        "problems": str(source.absolute()),
        "samples": samples,
        "temperature": temperature,
        "max_response_tokens": rollout.max_response_tokens,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    report = out.with_suffix(".json")
    rates = begin_or_resume(out, report, settings)
    if rates:
        console.print(f"{len(rates)} of {len(problems)} problems are rated already")
    failures: list[RolloutFailure] = []
    todo = [problem for problem in problems if problem.id not in rates]
    if todo:
        how = SamplingSettings(samples, temperature, rollout.max_response_tokens, seed=0)
        originals = dict(zip((one.id for one in todo), records_of(todo, source, out), strict=True))
        with (
            Fleet(checkpoint, rollout) as fleet,
            Grader(grading.workers, grading.timeout_seconds) as grader,
            out.open("ab") as written,
        ):
            for chunk in in_chunks(fleet, todo, how, rollout, "rating"):
                failures += chunk.failures
                for group in grade_rollouts(grader, chunk.problems, chunk.rollouts):
                    name, rate = group.problem.id, group.accuracy
                    rates[name] = rate
                    written.write(encoded({**originals[name], "pass_rate": rate}))
                written.flush()
                os.fsync(written.fileno())
    left_out = [*((s.id, s.reason) for s in skipped), *((f.problem_id, f.reason) for f in failures)]
    known = [rate for rate in rates.values() if rate is not None]
    summary = {
        "settings": settings,
        "rated": len(rates),
        "pass_rate_mean": sum(known) / len(known) if known else None,
        "not_gradable": [name for name, rate in rates.items() if rate is None],
        "skipped": [{"id": name, "reason": reason} for name, reason in left_out],
    }
    write_report(report, summary)
    console.print(_table(known, checkpoint))
    for name in summary["not_gradable"]:
        console.print(f"no pass rate {name}: no response could be graded", markup=False)
    for name, reason in left_out:
        console.print(f"skipped {name}: {reason}", markup=False)
    console.print(f"{out}\n{report}", soft_wrap=True, markup=False)


def begin_or_resume(
    out: Path, report: Path, settings: Mapping[str, Any], column: str = "pass_rate"
) -> dict[str, float | None]:
    """What `out` already holds in `column`, by id; afterwards it ends with a whole line.

    Raises ConfigError if the file was not made with these settings.
    """
    if not out.exists():
        write_report(report, {"settings": settings})
        return {}
    try:
        before = json.loads(report.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{out}: exists, and no {report.name} says how it was sampled; "
            "delete it or choose another --out"
        ) from None
    if before != settings:
        other = next(key for key in {**before, **settings} if before.get(key) != settings.get(key))
        raise ConfigError(
            f"{out}: was sampled with {other} {before.get(other)}, not {settings.get(other)}; "
            "delete it or choose another --out"
        )
    found: dict[str, float | None] = {}
    whole = 0
    with out.open("rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
                name, value = str(record["id"]).strip(), record[column]
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            found[name] = value
            whole += len(line)
    os.truncate(out, whole)
    return found


def in_chunks(
    fleet: Fleet,
    problems: Sequence[Problem],
    settings: SamplingSettings,
    rollout: RolloutConfig,
    doing: str,
) -> Iterator[Chunk]:
    """Sample all problems, under a progress bar (plain lines in a log file); chunks in order.

    The engines go on while the caller is at work with a chunk.
    """
    at_once = rollout.workers * rollout.engine.max_num_seqs * ENGINE_LOADS_PER_CHUNK
    size = max(rollout.workers, at_once // settings.samples)
    # A deterministic engine must not mix chunks: what it samples would depend on the clock.
    in_flight = 1 if rollout.engine.deterministic else CHUNKS_IN_FLIGHT
    parts = (problems[start : start + size] for start in range(0, len(problems), size))
    submitted = ((part, fleet.submit(part, settings)) for part in parts)
    console = Console(stderr=True)
    with Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # A chunk may take minutes; the usual 30 s window would see none of them.
        speed_estimate_period=3600,
    ) as progress:
        bar = progress.add_task("", total=len(problems))
        under_way = deque(islice(submitted, in_flight))
        done = 0
        while under_way:
            part, sampling = under_way.popleft()
            sampled = fleet.collect(sampling)
            under_way.extend(islice(submitted, 1))
            yield Chunk(part, *sampled)
            progress.advance(bar, len(part))
            done += len(part)
            if not console.is_terminal:
                console.print(f"{doing} {done}/{len(problems)}")


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """As JSON; the file is never half written."""
    write_json(path, report)


def _table(rates: Sequence[float], checkpoint: Path) -> Table:
    mean = f"{100 * sum(rates) / len(rates):.1f} %" if rates else "–"
    table = Table(title=f"{checkpoint}: {len(rates)} problems", caption=f"mean pass rate {mean}")
    table.add_column("right")
    table.add_column("problems", justify="right")
    above = -1.0
    for limit, name in BINS:
        table.add_row(name, str(sum(above < rate <= limit for rate in rates)))
        above = limit
    return table
