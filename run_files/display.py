"""What a training run shows: a live table on a terminal, one plain line per iteration elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .stages import ITERATION_STAGES, Stage, seconds_in

Metrics = Mapping[str, Any]

ROWS_SHOWN = 8
WIDTH_WITH_STAGES = 112  # characters; a narrower terminal shows the total seconds only
MISSING = "–"

# (heading, metric, how it is written); the seconds of the stages follow in their own columns.
COLUMNS = (
    ("accuracy", "accuracy", "{:.1%}"),
    ("reward", "reward_mean", "{:.3f}"),
    ("tokens", "response_tokens_mean", "{:.0f}"),
    ("cut", "truncated_share", "{:.0%}"),
    ("ℓ max", "ell_max", "{:.3g}"),
    ("mismatch", "mismatch_max", "{:.1e}"),
    ("entropy", "entropy", "{:.3f}"),
    ("tok/s", "rollout_tokens_per_second", "{:,.0f}"),
)


class Display:
    """Progress, the current stage and the last iterations. `start` and `stop` frame the run."""

    def __init__(self, total_iterations: int, console: Console | None = None) -> None:
        self._console = console or Console()
        self._total = total_iterations
        self._stage: tuple[Stage, float] | None = None
        self._rows: deque[Metrics] = deque(maxlen=ROWS_SHOWN)
        self._progress = Progress(
            TextColumn("[bold]RL"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("·"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            # An iteration may take minutes; the usual 30 s window would see none of them.
            speed_estimate_period=3600,
        )
        self._task = self._progress.add_task("", total=total_iterations)
        self._live = Live(self, console=self._console, refresh_per_second=4, transient=False)

    def start(self) -> None:
        if self._console.is_terminal:
            self._live.start()

    def stop(self) -> None:
        self._stage = None
        if self._console.is_terminal:
            self._live.stop()

    def resume(self, records: Sequence[Metrics], next_iteration: int) -> None:
        """Continue where an earlier process stopped: its last iterations are shown again."""
        self._rows = deque(records, maxlen=ROWS_SHOWN)
        self._progress.reset(self._task, completed=next_iteration)

    def stage(self, name: Stage | None) -> None:
        self._stage = None if name is None else (name, time.perf_counter())

    def show(self, record: Metrics) -> None:
        """Add a finished iteration: its `iteration` number and its metrics."""
        self._rows.append(record)
        self._progress.update(self._task, completed=record["iteration"] + 1)
        if not self._console.is_terminal:
            self.message(plain_line(record, self._total))

    def message(self, text: str) -> None:
        """Print a line of its own, above the table where there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        stage, now = self._stage, time.perf_counter()
        status = f"{stage[0]} {now - stage[1]:.1f} s" if stage else "between stages"
        yield Group(
            self._progress, Text(status, style="cyan"), _table(self._rows, options.max_width)
        )


def plain_line(record: Metrics, total_iterations: int) -> str:
    """One line for a log file.

    Example: "iteration 12/100 · accuracy 41.0% · … · 4.1 s (rollout 2.1, learn 1.5)".
    """
    parts = [f"iteration {record['iteration']}/{total_iterations}"]
    for heading, name, form in COLUMNS:
        if record.get(name) is not None:
            parts.append(f"{heading} {form.format(record[name])}")
    for name, value in record.items():
        if name.startswith("evaluation/") and value is not None:
            parts.append(f"{name} {value:.4g}")
    stages = [f"{stage} {seconds:.1f}" for stage, seconds in _stage_seconds(record).items()]
    total = _written(record, seconds_in("total"), "{:.1f} s")
    parts.append(f"{total} ({', '.join(stages)})" if stages else total)
    return " · ".join(parts)


def _table(rows: Sequence[Metrics], width: int) -> Table:
    stages = ITERATION_STAGES if width >= WIDTH_WITH_STAGES else ()
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for heading in ("iteration", *(column[0] for column in COLUMNS)):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("seconds", *stages):
        table.add_column(heading, justify="right", no_wrap=True, style="dim")
    for row in rows:
        table.add_row(
            str(row["iteration"]),
            *(_written(row, name, form) for _, name, form in COLUMNS),
            *(_written(row, seconds_in(stage), "{:.1f}") for stage in ("total", *stages)),
        )
    return table


def _stage_seconds(record: Metrics) -> dict[str, float]:
    """The stages this iteration went through, with their seconds."""
    return {stage: value for stage in get_args(Stage) if (value := record.get(seconds_in(stage)))}


def _written(record: Metrics, name: str, form: str) -> str:
    value = record.get(name)
    return MISSING if value is None else form.format(value)
