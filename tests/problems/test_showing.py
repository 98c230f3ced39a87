"""`kvl-rl problems`: what it prints of files that load, in part or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import make_layouts
import pytest
from kvl.problems.showing import columns_from, show_problems
from kvl.problems.types import ProblemError


def test_a_file_is_shown_as_the_model_will_see_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_layouts.write_parquet(make_layouts.mathvista(), tmp_path / "a.parquet")
    show_problems(path, {})
    shown = capsys.readouterr().out
    assert shown.startswith("layout: MathVista\nproblems: 4, skipped: 0\n")
    assert "answer types: number 2, choice 1, list 1\nimages: 4 with 1\n" in shown
    assert (
        "── 1\n[image 64×48]What is shown?\nA. two bars\nB. three bars\ngold (choice): B" in shown
    )
    assert shown.count("gold (") == 3


def test_skipped_rows_are_named_with_reasons_up_to_twenty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": "1 + 1?", "answer": "2"}, *[{"question": "\x1b[2J", "answer": ""}] * 25]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    show_problems(path, {})
    shown = capsys.readouterr().out
    assert "problems: 1, skipped: 25" in shown
    assert shown.count("skipped a.jsonl:") == 20
    assert "… and 5 more" in shown
    assert "\x1b" not in shown


def test_columns_are_pairs() -> None:
    assert columns_from(["question=q", "answer=a=b"]) == {"question": "q", "answer": "a=b"}
    with pytest.raises(ProblemError, match="must be FIELD=COLUMN"):
        columns_from(["question"])
