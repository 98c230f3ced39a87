"""Rating without an engine: what is written, and that a kill costs nothing but its chunk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kvl.configs.errors import ConfigError
from kvl.configs.rl import GraderConfig
from kvl.configs.rollout import EngineConfig, RolloutConfig
from kvl.evaluation import rate, sampling
from kvl.problems.types import Problem
from kvl.rollouts.types import Rollout, RolloutFailure, SamplingSettings, Segment, StopReason

ROWS = [
    {"id": f"p{i}", "question": f"{i}?", "answer": f"{i}", "answer_type": "number", "mine": "ö" * i}
    for i in range(6)
]


class FakeFleet:
    """Answers 3 to everything, half the time; notes what it was asked; may die on the way."""

    asked: list[str] = []  # noqa: RUF012
    dies_at = ""

    def __init__(self, *_: object, **__: object) -> None:
        return

    def __enter__(self) -> FakeFleet:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def submit(
        self, problems: Sequence[Problem], settings: SamplingSettings
    ) -> tuple[list[str], SamplingSettings]:
        names = [problem.id for problem in problems]
        self.asked += names
        return names, settings

    def collect(
        self, submitted: tuple[list[str], SamplingSettings]
    ) -> tuple[list[Rollout], list[RolloutFailure]]:
        names, settings = submitted
        if self.dies_at in names:
            raise RuntimeError("killed")
        failures = [RolloutFailure(name, "too long") for name in names if name == "p5"]
        texts = ("◁think▷so◁/think▷3", "nothing")
        rollouts = [
            Rollout(
                name, i, (1,), (2,), (-1.0,), (Segment(0, 1, 0),), StopReason.STOP, texts[i % 2]
            )
            for name in names
            if name != "p5"
            for i in range(settings.samples)
        ]
        return rollouts, failures


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sampling, "Fleet", FakeFleet)
    monkeypatch.setattr(rate, "check_checkpoint", lambda folder: None)
    monkeypatch.setattr(FakeFleet, "asked", [])
    monkeypatch.setattr(FakeFleet, "dies_at", "")
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    return path


def rated(source: Path, samples: int = 4, **changes: Any) -> Path:
    out = source.with_name("out.jsonl")
    # Two problems make a chunk.
    engine = EngineConfig(max_num_seqs=samples)
    rate.rate_file(
        changes.get("checkpoint", source.parent),
        source,
        out,
        samples=samples,
        temperature=1.0,
        rollout=RolloutConfig(engine=engine),
        grading=GraderConfig(),
    )
    return out


def test_every_row_gets_its_rate_and_keeps_its_columns(source: Path) -> None:
    out = rated(source)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows == [{**row, "pass_rate": 0.5 if row["id"] == "p3" else 0.0} for row in ROWS[:5]]
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["rated"] == 5
    assert report["pass_rate_mean"] == pytest.approx(0.1)
    assert report["skipped"] == [{"id": "p5", "reason": "too long"}]


def test_after_a_kill_only_the_rest_is_sampled(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, path = source.with_name("out.jsonl"), source.with_name("out.samples.jsonl")
    expected = rated(source).read_bytes(), path.read_bytes()
    out.unlink()
    path.unlink()
    monkeypatch.setattr(FakeFleet, "dies_at", "p4")
    with pytest.raises(RuntimeError, match="killed"):
        rated(source)
    assert not out.exists()
    # The kill came while the last line was written.
    path.write_bytes(path.read_bytes()[:-9])
    monkeypatch.setattr(FakeFleet, "dies_at", "")
    monkeypatch.setattr(FakeFleet, "asked", [])
    rated(source)
    assert (out.read_bytes(), path.read_bytes()) == expected
    assert FakeFleet.asked == ["p3", "p4", "p5"]


def test_other_settings_do_not_continue_a_file(source: Path) -> None:
    out = rated(source)
    with pytest.raises(ConfigError, match=r"samples was 4, is 6\); delete it or choose"):
        rated(source, samples=6)
    source.with_name("out.samples.settings.json").unlink()
    with pytest.raises(ConfigError, match=r"no out\.samples\.settings\.json says how"):
        rated(source)
    source.with_name("out.samples.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"out\.jsonl: exists, and no out\.samples\.jsonl"):
        rated(source)
    assert len(out.read_text().splitlines()) == 5


def test_the_input_is_never_the_output(source: Path) -> None:
    with pytest.raises(ConfigError, match="other than the input"):
        rate.rate_file(
            source.parent,
            source,
            source,
            samples=4,
            temperature=1.0,
            rollout=RolloutConfig(),
            grading=GraderConfig(),
        )
