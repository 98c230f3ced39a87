"""What a run measured goes and stays with its iterations; strangers' files stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kvl.configs.errors import KVLError
from kvl.run_files.evaluations import best_of, keep_former_end, note_best, rewind_evaluations


def measured(run_dir: Path, **iterations: int) -> None:
    folder = run_dir / "evaluation"
    folder.mkdir(exist_ok=True)
    for name, iteration in iterations.items():
        (folder / f"{name}.json").write_text(json.dumps({"iteration": iteration}))
        (folder / f"{name}.jsonl").write_text("{}\n")


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in (run_dir / "evaluation").iterdir())


def test_what_will_be_trained_again_is_measured_again(tmp_path: Path) -> None:
    measured(tmp_path, before=0, iteration_000002=2, iteration_000004=4, after=6)
    note_best(tmp_path, "pass_at_1", 0.5, 4)
    rewind_evaluations(tmp_path, 4, print)
    assert "after.json" not in names(tmp_path)
    assert "after.jsonl" not in names(tmp_path)
    assert "iteration_000004.json" in names(tmp_path)
    assert best_of(tmp_path) == {"metric": "pass_at_1", "value": 0.5, "iteration": 4}
    rewind_evaluations(tmp_path, 3, print)
    assert best_of(tmp_path) is None
    assert names(tmp_path) == [
        "before.json",
        "before.jsonl",
        "iteration_000002.json",
        "iteration_000002.jsonl",
    ]


@pytest.mark.parametrize("content", ['{"mine": 1}', "[]", "not JSON", '{"iteration": "x"}'])
def test_a_strangers_file_is_left_alone_and_said(tmp_path: Path, content: str) -> None:
    measured(tmp_path, before=0)
    (tmp_path / "evaluation" / "mine.json").write_text(content)
    said: list[str] = []
    rewind_evaluations(tmp_path, 0, said.append)
    assert len(said) == 1
    assert "mine.json" in said[0]
    assert (tmp_path / "evaluation" / "mine.json").read_text() == content


def test_something_else_under_the_name_of_an_evaluation_is_one_line(tmp_path: Path) -> None:
    measured(tmp_path, before=0)
    (tmp_path / "evaluation" / "before.json").write_text("[]")
    with pytest.raises(KVLError, match=r"before.json: is no evaluation"):
        rewind_evaluations(tmp_path, 0, print)


def test_the_end_of_a_run_that_goes_on_becomes_one_evaluation_among_others(tmp_path: Path) -> None:
    keep_former_end(tmp_path)
    measured(tmp_path, before=0, after=3)
    keep_former_end(tmp_path)
    assert names(tmp_path)[2:] == ["iteration_000003.json", "iteration_000003.jsonl"]


@pytest.mark.parametrize("content", ["", "[]", '{"value": 1}', '{"metric": 1, "value": "x"}'])
def test_a_foreign_best_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "best.json").write_text(content)
    with pytest.raises(KVLError, match=r"best.json: does not say metric, value and iteration"):
        best_of(tmp_path)
