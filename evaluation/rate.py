"""`kvl-rl rate`: how often a checkpoint solves each problem, as a column of the problem file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..configs.common import ProblemSource
from ..configs.errors import ConfigError
from ..configs.rl import GraderConfig
from ..configs.rollout import RolloutConfig
from ..configs.system.files import atomic_file, write_json
from ..kimi_vl_model.soundness import check_checkpoint
from ..problems.jsonl import records_of
from ..problems.loading import load_problems
from ..rewards.gold_fault import gold_fault
from ..rollouts.types import SamplingSettings
from .grade_file import encoded
from .records import pass_rate
from .records_file import RecordsFile, results_beside
from .sampling import Plan, sample_missing

BINS = (
    (0.0, "never right"),
    (0.5, "up to half"),
    (0.9999, "more than half"),
    (1.0, "always right"),
)


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

    Every response is in the records `OUT.samples.jsonl`, written as problems are done: the same
    command again rates what is missing there. `out` appears when it is complete, in file order;
    `OUT.json` says what was left out. A response cut by the token cap is wrong.

    Raises ConfigError if the records are of other settings, KVLError for problems or a checkpoint
    that cannot be used.
    """
    console = Console()
    if out.suffix != ".jsonl" or (out.exists() and source.exists() and out.samefile(source)):
        raise ConfigError(f"--out {out}: must be a .jsonl file other than the input")
    path = out.with_suffix(".samples.jsonl")
    results_beside(out, path)
    check_checkpoint(checkpoint)
    problems, skipped = load_problems(ProblemSource(path=source), gold_fault)
    how = SamplingSettings(samples, temperature, rollout.max_response_tokens, seed=0)
    plan = Plan(checkpoint, source, (how,), rollout, grading)
    settings = plan.identity()
    records = RecordsFile(path, settings)
    failures = sample_missing(plan, problems, records, "rating", "rated")
    rates = {
        one.id: pass_rate(own) for one in problems if (own := records.responses(one)) is not None
    }
    rated = [problem for problem in problems if problem.id in rates]
    with atomic_file(out) as file:
        for row, rate in zip(records_of(rated, source, out), rates.values(), strict=True):
            file.write(encoded({**row, "pass_rate": rate}))
    left_out = [*((s.id, s.reason) for s in skipped), *((f.problem_id, f.reason) for f in failures)]
    known = [rate for rate in rates.values() if rate is not None]
    summary = {
        "settings": dict(settings.settings),
        "rated": len(rates),
        "pass_rate_mean": sum(known) / len(known) if known else None,
        "not_gradable": [name for name, rate in rates.items() if rate is None],
        "skipped": [{"id": name, "reason": reason} for name, reason in left_out],
    }
    report = out.with_suffix(".json")
    write_json(report, summary)
    console.print(_table(known, checkpoint))
    for name in summary["not_gradable"]:
        console.print(f"no pass rate {name}: no response could be graded", markup=False)
    for name, reason in left_out:
        console.print(f"skipped {name}: {reason}", markup=False)
    console.print(f"{out}\n{report}", soft_wrap=True, markup=False)


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
