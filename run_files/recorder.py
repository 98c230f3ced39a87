"""What a run leaves behind: metrics.jsonl, trackers, transcripts, and what the terminal shows."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from .display import Display
from .trackers import Sink, check_trackers, open_tracker

Record = dict[str, Any]

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
        self._seconds: dict[str, float] = {}
        self._last_log = time.perf_counter()

    def __enter__(self) -> Recorder:
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
    def stage(self, name: str) -> Iterator[None]:
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
        seconds = {f"seconds_{stage}": round(value, 3) for stage, value in self._seconds.items()}
        seconds["seconds_total"] = round(now - self._last_log, 3)
        given = {**_throughput(metrics, self._seconds), **metrics, **seconds}
        self._seconds, self._last_log = {}, now
        values = {name: _finite(value) for name, value in given.items()}
        record = {"iteration": iteration, "timestamp": round(time.time(), 3), **values}
        _append(self.run_dir / "metrics.jsonl", record)
        known = {name: value for name, value in values.items() if value is not None}
        for sink in self._open_sinks():
            sink.log(iteration, known)
        self._display.show(record)

    def failure(self, iteration: int, problem_id: str, reason: str) -> None:
        """Report a problem that could not be used; `iteration` is -1 while problems are loaded."""
        line = {"iteration": iteration, "id": problem_id, "reason": reason}
        _append(self.run_dir / "failures.jsonl", line)
        self._display.message(f"left out {problem_id}: {reason}")

    def rewind(self, iteration: int) -> None:
        """Forget `iteration` and all later ones: they will be run again.

        Call it once before the first iteration, also of a fresh run (with 0): the metrics of the
        folder then end right before `iteration`, whatever an earlier process left behind.
        """
        path = self.run_dir / "metrics.jsonl"
        records = [record for record in read_records(path) if record["iteration"] < iteration]
        if path.exists():
            write_atomically(path, "".join(json.dumps(record) + "\n" for record in records))
        failures = self.run_dir / "failures.jsonl"
        kept = [line for line in read_lines(failures) if line["iteration"] < iteration]
        if failures.exists():
            # A resumed run has just reported the records that it skipped while loading again.
            lines = dict.fromkeys(json.dumps(line) + "\n" for line in kept)
            write_atomically(failures, "".join(lines))
        for transcript, written_at in transcript_files(self.run_dir):
            if written_at >= iteration:
                transcript.unlink()
        for evaluation in (self.run_dir / "evaluation").glob("*.json"):
            # It counts finished iterations: the one of 0 comes before the first.
            if json.loads(evaluation.read_text())["iteration"] > iteration:
                evaluation.unlink()
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


def read_records(path: Path) -> list[Record]:
    """The iterations in a metrics.jsonl."""
    return [record for record in read_lines(path) if isinstance(record.get("iteration"), int)]


def read_lines(path: Path) -> list[Record]:
    """The readable records of a JSONL file, without a line that a kill cut short."""
    records = []
    # Not splitlines: model text may hold other line separators than \n.
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def transcript_files(run_dir: Path) -> list[tuple[Path, int]]:
    """The transcripts of a run with their iterations, oldest first."""
    found = [
        (path, int(match[1]))
        for path in (run_dir / "transcripts").glob("iteration_*.jsonl")
        if (match := _TRANSCRIPT.fullmatch(path.name))
    ]
    return sorted(found, key=lambda item: item[1])


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by its new version; a kill leaves the old one or the new one whole."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _throughput(
    metrics: Mapping[str, float | None], seconds: Mapping[str, float]
) -> dict[str, float]:
    """Tokens per second of the two stages that handle tokens, where both numbers are known."""
    rates = {}
    for name, count, stage in (
        ("rollout_tokens_per_second", metrics.get("sampled_tokens"), "rollout"),
        ("learner_tokens_per_second", metrics.get("learner_tokens"), "learn"),
    ):
        if count is not None and seconds.get(stage):
            rates[name] = round(count / seconds[stage], 1)
    return rates


def _append(path: Path, record: Record) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _finite(value: float | None) -> float | None:
    """A number that JSON can hold, also from a NumPy or one-element torch value."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(value)
