"""A run's metrics, transcripts and display survive kills, gaps and odd values."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from kvl.configs.errors import KVLError
from kvl.problems.types import AnswerType, ImageSource, Problem
from kvl.rewards.types import Outcome, Verdict
from kvl.rl.types import Group
from kvl.rollouts.types import Rollout, Segment, StopReason
from kvl.run_files.metrics_file import read_records
from kvl.run_files.recorder import Recorder, transcript_files
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture
def screen() -> Console:
    return Console(file=io.StringIO(), width=160)


def png_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, format="PNG")
    return buffer.getvalue()


def group(name: str, *images: ImageSource) -> Group:
    marks = "".join(f"<image{number}>" for number in range(1, len(images) + 1))
    rollouts = tuple(
        Rollout(name, j, (1, 2), (3, 4), (-0.1, -0.2), (Segment(0, 2, 0),), StopReason.STOP, text)
        for j, text in enumerate(("right \u2028 text", "wrong"))
    )
    return Group(
        problem=Problem(name, f"What? {marks}", images, "7", AnswerType.NUMBER, family="sums"),
        rollouts=rollouts,
        verdicts=(Verdict(Outcome.CORRECT, "7"), Verdict(Outcome.NO_ANSWER, reason="nothing")),
        rewards=(1.0, 0.0),
        advantages=(0.5, -0.5),
    )


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
            recorder.transcripts(iteration, [group("p")], 1)
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


def test_transcripts(tmp_path: Path, screen: Console) -> None:
    on_disk = tmp_path / "figure.png"
    on_disk.write_bytes(png_bytes())
    from_bytes = ImageSource(data=png_bytes())
    groups = [
        group("a", from_bytes, ImageSource(path=on_disk)),
        group("b", from_bytes),
        group("c"),
    ]
    with Recorder(tmp_path / "run", (), 1, screen) as recorder:
        recorder.transcripts(12, groups, limit=2)
        recorder.transcripts(13, groups, limit=0)
    folder = tmp_path / "run" / "transcripts"
    assert [path.name for path in folder.glob("*.jsonl")] == ["iteration_000012.jsonl"]
    first, second = map(json.loads, (folder / "iteration_000012.jsonl").read_text().split("\n")[:2])
    written, kept = first["images"]
    assert (folder / written).read_bytes() == png_bytes()
    assert written.endswith(".png")
    assert kept == str(on_disk)
    assert second["images"] == [written]
    assert len(list((folder / "images").iterdir())) == 1
    assert first["samples"] == [
        {
            "sample": 0,
            "text": "right \u2028 text",
            "extracted": "7",
            "outcome": "correct",
            "reason": "",
            "reward": 1.0,
            "parts": {},
            "advantage": 0.5,
            "stop_reason": "stop",
            "tokens": 2,
        },
        {
            "sample": 1,
            "text": "wrong",
            "extracted": None,
            "outcome": "no_answer",
            "reason": "nothing",
            "reward": 0.0,
            "parts": {},
            "advantage": -0.5,
            "stop_reason": "stop",
            "tokens": 2,
        },
    ]


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_missing_tracker_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(KVLError, match=r"pip install kimi-vl-thinking\[trackers\]"):
        Recorder(tmp_path, (name,), 1)


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
