"""A run's metrics, transcripts and display survive kills, gaps and odd values."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from kvl.run_files.metrics_file import read_records
from kvl.run_files.recorder import Recorder, transcript_files
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture
def screen() -> Console:
    return Console(file=io.StringIO(), width=160)


def test_metrics_round_trip_with_stage_seconds(tmp_path: Path, screen: Console) -> None:
    with Recorder(tmp_path, (), 2, screen) as recorder:
        with recorder.stage("rollout"):
            pass
        with recorder.stage("rollout"), recorder.stage("grade"):
            pass
        recorder.log(0, {"accuracy": 0.5, "problems": 4, "sampled_tokens": 9})
        recorder.log(1, {"accuracy": 0.75, "evaluation/pass_at_1": 0.5})
    first, second = read_records(tmp_path / "metrics.jsonl")
    assert first["accuracy"] == 0.5
    assert first["problems"] == 4
    assert first["seconds_rollout"] >= 0
    assert first["rollout_tokens_per_second"] > 0
    assert "learner_tokens_per_second" not in first
    assert first["seconds_total"] >= first["seconds_grade"] >= 0
    assert first["timestamp"] <= second["timestamp"]
    assert "seconds_rollout" not in second, "the clocks start again after every iteration"
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 2
    assert "iteration 0/2 · accuracy 50.0%" in lines[0]
    assert "evaluation/pass_at_1 0.5" in lines[1]
    assert "\x1b" not in lines[0]


def test_a_failing_stage_still_counts(tmp_path: Path, screen: Console) -> None:
    with Recorder(tmp_path, (), 1, screen) as recorder:
        with pytest.raises(RuntimeError), recorder.stage("learn"):
            raise RuntimeError
        recorder.log(0, {})
    assert "seconds_learn" in read_records(tmp_path / "metrics.jsonl")[0]


def test_values_that_json_cannot_hold_become_null(tmp_path: Path, screen: Console) -> None:
    with Recorder(tmp_path, ("tensorboard",), 1, screen) as recorder:
        recorder.log(0, {"entropy": float("nan"), "ell_max": float("inf"), "loss": None})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    record = json.loads(text)
    assert [record[name] for name in ("entropy", "ell_max", "loss")] == [None, None, None]


def test_rewind_after_a_kill(tmp_path: Path, screen: Console) -> None:
    with Recorder(tmp_path, ("tensorboard",), 9, screen) as recorder:
        recorder.failure(-1, "broken", "corrupt image")
        for iteration in range(5):
            recorder.failure(iteration, f"p{iteration}", "too long")
            (tmp_path / "transcripts").mkdir(exist_ok=True)
            (tmp_path / f"transcripts/iteration_{iteration:06d}.jsonl").write_text("{}\n")
            recorder.log(iteration, {"accuracy": iteration / 10})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"iteration": 5, "accur')

    with Recorder(tmp_path, ("tensorboard",), 9, screen) as recorder:
        recorder.failure(-1, "broken", "corrupt image")
        recorder.rewind(3)
        assert [record["iteration"] for record in read_records(path)] == [0, 1, 2]
        assert path.read_text().count("\n") == 3
        recorder.log(3, {"accuracy": 0.9})
    assert [record["accuracy"] for record in read_records(path)] == [0.0, 0.1, 0.2, 0.9]
    assert [iteration for _, iteration in transcript_files(tmp_path)] == [0, 1, 2]
    failures = [json.loads(line) for line in (tmp_path / "failures.jsonl").open()]
    assert [failure["id"] for failure in failures] == ["broken", "p0", "p1", "p2"]

    events = EventAccumulator(str(tmp_path / "tensorboard"), purge_orphaned_data=True).Reload()
    assert [event.step for event in events.Scalars("accuracy")] == [0, 1, 2, 3]


def test_rewind_of_an_empty_folder(tmp_path: Path, screen: Console) -> None:
    with Recorder(tmp_path / "new", (), 1, screen) as recorder:
        recorder.rewind(0)
    assert not (tmp_path / "new" / "metrics.jsonl").exists()


def test_a_terminal_gets_a_live_table(tmp_path: Path) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=160)
    with Recorder(tmp_path, (), 3, terminal) as recorder:
        recorder.rewind(0)
        with recorder.stage("rollout"):
            recorder.log(0, {"accuracy": 0.25, "mismatch_max": float("nan")})
    shown = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "25.0%" in shown
    assert "mismatch" in shown
    assert "1/3" in shown
