"""What a run leaves and shows while it trains: metrics.jsonl and a progress bar."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class MetricsFile:
    """`metrics.jsonl`: one line per log. A resumed run continues it without repeating a step.

    seconds     training time so far, over all sessions of the run
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seconds = 0.0

    def continue_from(self, step: int) -> None:
        """Drop the lines of steps that will be trained again, and a line cut short by a kill."""
        records = []
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                record = json.loads(line)
            except ValueError:
                break
            if record["step"] > step:
                break
            records.append(record)
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in records))
        os.replace(partial, self.path)
        self.seconds = records[-1]["seconds"] if records else 0.0

    def append(self, record: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")


class ProgressBar(TrainerCallback):
    """A bar on a terminal; elsewhere (a log file, CI) one plain line per log instead."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("SFT"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.task = self.progress.add_task(
            "", total=state.max_steps, completed=state.global_step, status=""
        )
        self.progress.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.progress.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        status = f"loss {logs['loss']:.4f} · {logs['tokens_per_second']:,.0f} tokens/s"
        self.progress.update(self.task, status=status)
        if not self.console.is_terminal:
            self.console.print(f"step {state.global_step}/{state.max_steps} · {status}")

    def close(self) -> None:
        self.progress.stop()
