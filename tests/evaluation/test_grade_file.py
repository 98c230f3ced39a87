"""`kvl-rl grade`: rows in, rows with verdicts out; bad rows named by their line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from kvl.configs.errors import ConfigError
from kvl.evaluation.grade_file import BadRow, grade_file, options_of, row_of
from kvl.problems.types import AnswerType
from kvl.rewards.types import Strictness

ROWS = [
    {"answer": "5", "response": "There are 5.", "answer_type": "number", "id": "n"},
    {"gold": "B", "response": "(B) two", "answer_type": "choice", "options": ["one", "two"]},
    {"answer": "B", "response": "two", "answer_type": "choice", "options": {"A": "1", "B": "two"}},
    {"answer": "2\\sqrt{3}", "response": "\\boxed{\\sqrt{12}}", "answer_type": "expression"},
    {"answer": "1.46", "response": "1.4596", "answer_type": "number", "precision": 2},
    {"answer": "7", "response": "no idea, sorry", "answer_type": "number"},
    {"answer": "\\frac{1}{", "response": "\\boxed{2}", "answer_type": "expression"},
    {"answer": 12, "response": "12 半角 \ud800", "answer_type": "number"},
]


def grade(folder: Path, lines: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "kvl.rl.cli", "grade", "in.jsonl", "--out", "out.jsonl", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_row_comes_back_with_its_verdict(tmp_path):
    result = grade(tmp_path, [json.dumps(row) for row in ROWS], "--workers", "1")
    assert result.returncode == 0, result.stderr
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    verdicts = [row["verdict"] for row in out]
    assert verdicts == [*["correct"] * 5, "no_answer", "invalid", "correct"]
    assert [row["reward"] for row in out] == [1.0] * 5 + [0.0, None, 1.0]
    for before, after in zip(ROWS, out, strict=True):
        assert before.items() <= after.items()
        assert after["milliseconds"] >= 0
        assert "extracted" in after
    assert "8 rows, policy eval" in result.stdout


def test_bad_rows_are_reported_by_line_and_skipped(tmp_path):
    good = json.dumps(ROWS[0])
    lines = [
        good,
        "{not json",
        "",
        "[1, 2]",
        json.dumps({"response": "5", "answer_type": "number"}),
        json.dumps({"answer": "5", "answer_type": "number"}),
        json.dumps({"answer": "5", "response": "5", "answer_type": "numeral"}),
        json.dumps({"answer": "C", "response": "C", "answer_type": "choice", "options": ["x"]}),
        good,
    ]
    result = grade(tmp_path, lines)
    assert result.returncode == 0, result.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2
    for line, what in (
        (2, "not JSON"),
        (4, "a row is an object"),
        (5, "'answer' (or 'gold') is missing"),
        (6, "'response' should be text, is missing"),
        (7, "answer_type 'numeral' is none of choice"),
        (8, "gold answer 'C' is not an option letter"),
    ):
        assert f"line {line}: {what}" in result.stdout
    assert "6 bad rows skipped" in result.stdout


def test_the_strict_policy_needs_the_thinking_markers(tmp_path):
    rows = [
        {"answer": "5", "answer_type": "number", "response": "5"},
        {"answer": "5", "answer_type": "number", "response": "◁think▷x◁/think▷5"},
    ]
    assert grade(tmp_path, [json.dumps(row) for row in rows], "--policy", "rl").returncode == 0
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in out] == ["no_answer", "correct"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "0"), "--workers 0: must be at least 1"),
        (("--timeout", "0"), "--timeout 0.0: must be more than 0"),
        (("--out", "in.jsonl"), "is the input file"),
    ],
)
def test_nonsense_is_refused_in_one_line(tmp_path, arguments, message):
    result = grade(tmp_path, [json.dumps(ROWS[0])], *arguments)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_without_a_good_row_leaves_no_output(tmp_path):
    result = grade(tmp_path, ["{}"])
    assert result.returncode != 0
    assert "no row could be graded" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_a_gold_that_is_an_options_text_is_its_letter():
    row = row_of(
        json.dumps(
            {"answer": "two", "response": "B", "answer_type": "choice", "options": ["one", "two"]}
        ).encode()
    )
    assert row.request.answer == "B"


def test_a_row_without_answer_type_is_judged_by_its_options():
    plain = row_of(b'{"answer": "5", "response": "5"}')
    assert plain.request.answer_type is AnswerType.OPEN
    choice = row_of(b'{"answer": "A", "response": "A", "options": ["x", "y"]}')
    assert choice.request.answer_type is AnswerType.CHOICE


def test_a_list_of_golds_is_one_list_or_several_spellings():
    row = {"answer": [2, 0], "response": "[2, 0]", "answer_type": "list"}
    assert row_of(json.dumps(row).encode()).request.answer == "2, 0"
    row = {"answer": ["6 dollars", "$6"], "response": "6", "answer_type": "open"}
    assert row_of(json.dumps(row).encode()).request.answer == "6 dollars"


def test_options_lose_letters_of_their_own():
    assert options_of(["A. one", "B. two"]) == ("one", "two")
    assert options_of(["(A) one", "(B) two"]) == ("one", "two")
    assert options_of(["A. one", "A. two"]) == ("A. one", "A. two")
    assert options_of({"(a)": "one", "C": "three"}) == ("one", "", "three")
    for bad in ({"AB": "1"}, "AB", [["x"]], [str(number) for number in range(27)]):
        with pytest.raises(BadRow):
            options_of(bad)


@pytest.mark.parametrize("out", [".", "rows.jsonl/graded.jsonl"])
def test_an_unwritable_output_is_one_line(tmp_path, out):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"answer": "5", "response": "5"}\n')
    with pytest.raises(ConfigError, match="--out"):
        grade_file(rows, tmp_path / out, Strictness.EVAL, workers=1, timeout=2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b'{"answer": "", "response": "5"}', "'answer' is empty"),
        (b'{"answer": NaN, "response": "5"}', "'answer' is nan"),
        (b"\x00\x00\xfe\xff", "not JSON"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(row, message):
    with pytest.raises(BadRow, match=message):
        row_of(row)
