"""What a run leaves behind: metrics.jsonl, trackers, transcripts, and what the terminal shows."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from rich.console import Console

from ..configs.system.files import append_lines, file_errors, write_atomically
from .display import Display
from .evaluations import rewind_evaluations
from .metrics_file import MetricsFile, Record, read_lines
from .stages import Stage, seconds_in
from .trackers import Sink, check_trackers, open_tracker

_TRANSCRIPT = re.compile(r"iteration_(\d+)\.jsonl")


class Recorder:
    """Writes one run folder. Every line survives a kill of the process as soon as it is written.

    Example: `with Recorder(run_dir, ("tensorboard",), 100) as recorder:` then, per iteration,
    `with recorder.stage("rollout"): …` and `recorder.log(0, {"accuracy": 0.4})`.
    """

    def __init__(
        self,
        run_dir: Path,
        trackers: Sequence[str],
        total_iterations: int,
        console: Console | None = None,
    ) -> None:
        """Raises KVLError if a tracker is not installed."""
        check_trackers(trackers)
        self.run_dir = run_dir
        self._tracker_names = trackers
        self._sinks: list[Sink] | None = None
        self._purge_step: int | None = None
        self._display = Display(total_iterations, console)
        self._metrics = MetricsFile(run_dir / "metrics.jsonl", "iteration")
        self._seconds: dict[Stage, float] = {}
        self._last_log = time.perf_counter()

    def __enter__(self) -> Recorder:
        with file_errors(self.run_dir):
            self.run_dir.mkdir(parents=True, exist_ok=True)
        self._last_log = time.perf_counter()
        self._display.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._display.stop()
        self._close_sinks()

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Add the wall seconds of the block to the iteration's `seconds_<name>`."""
        self._display.stage(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started
            self._display.stage(None)

    def log(self, iteration: int, metrics: Mapping[str, float | None]) -> None:
        """Record one finished iteration and start the clocks of the next.

        `seconds_total` is the wall time since the previous call, stages or not. A value that is
        not finite is written as null: JSON has no NaN. Where `metrics` counts sampled or learner
        tokens, their tokens per second are added.
        """
        now = time.perf_counter()
        seconds = {seconds_in(stage): round(value, 3) for stage, value in self._seconds.items()}
        seconds[seconds_in("total")] = round(now - self._last_log, 3)
        rates = _throughput(metrics, self._seconds)
        self._seconds, self._last_log = {}, now
        counted = {"iteration": iteration, "timestamp": round(time.time(), 3)}
        record = self._metrics.append({**counted, **rates, **metrics, **seconds})
        known = {n: v for n, v in record.items() if n not in counted and v is not None}
        for sink in self._open_sinks():
            sink.log(iteration, known)
        self._display.show(record)
        if skipped := record.get("steps_skipped"):
            self._display.message(
                f"iteration {iteration}: {skipped} optimizer step(s) skipped, because the loss or "
                "the gradient norm was not finite; the weights did not move in them"
            )

    def failure(self, iteration: int, problem_id: str, reason: str) -> None:
        """Report a problem that could not be used; `iteration` is -1 while problems are loaded."""
        line = {"iteration": iteration, "id": problem_id, "reason": reason}
        append_lines(self.run_dir / "failures.jsonl", [json.dumps(line)])
        self._display.message(f"left out {problem_id}: {reason}")

    def rewind(self, iteration: int) -> None:
        """Forget `iteration` and all later ones: they will be run again.

        Call it once before the first iteration, also of a fresh run (with 0): the metrics of the
        folder then end right before `iteration`, whatever an earlier process left behind.
        """
        records = self._metrics.continue_after(iteration - 1)
        failures = self.run_dir / "failures.jsonl"
        if failures.exists():
            kept = [line for line in read_lines(failures) if _at(line) < iteration]
            # A resumed run has just reported the records that it skipped while loading again.
            lines = dict.fromkeys(json.dumps(line) + "\n" for line in kept)
            write_atomically(failures, "".join(lines))
        for transcript, written_at in transcript_files(self.run_dir):
            if written_at >= iteration:
                with file_errors(transcript):
                    transcript.unlink()
        rewind_evaluations(self.run_dir, iteration, self._display.message)
        # Trackers open at the next log, because TensorBoard takes its purge step when it opens.
        self._close_sinks()
        self._purge_step = iteration
        self._display.resume(records, iteration)

    def message(self, text: str) -> None:
        """A line of its own on the terminal."""
        self._display.message(text)

    def _open_sinks(self) -> list[Sink]:
        if self._sinks is None:
            self._sinks = [
                open_tracker(name, self.run_dir, self._purge_step) for name in self._tracker_names
            ]
        return self._sinks

    def _close_sinks(self) -> None:
        for sink in self._sinks or ():
            sink.close()
        self._sinks = None


def transcript_files(run_dir: Path) -> list[tuple[Path, int]]:
    """The transcripts of a run with their iterations, oldest first."""
    found = [
        (path, int(match[1]))
        for path in (run_dir / "transcripts").glob("iteration_*.jsonl")
        if (match := _TRANSCRIPT.fullmatch(path.name))
    ]
    return sorted(found, key=lambda item: item[1])


def _at(failure: Record) -> int:
    """The iteration of a line in failures.jsonl; that of a line without one never comes."""
    iteration = failure.get("iteration")
    return iteration if isinstance(iteration, int) else sys.maxsize


def _throughput(
    metrics: Mapping[str, float | None], seconds: Mapping[Stage, float]
) -> dict[str, float]:
    """Tokens per second of the two stages that handle tokens, where both numbers are known."""
    rates = {}
    counts: tuple[tuple[str, float | None, Stage], ...] = (
        ("rollout_tokens_per_second", metrics.get("sampled_tokens"), "rollout"),
        ("learner_tokens_per_second", metrics.get("learner_tokens"), "learn"),
    )
    for name, count, stage in counts:
        if count is not None and seconds.get(stage):
            rates[name] = round(count / seconds[stage], 1)
    return rates
