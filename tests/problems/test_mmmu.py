"""MMMU's parquet: its string lists, its image columns and its open questions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kvl.problems.reading import problem_files
from kvl.problems.types import AnswerType, Problem, ProblemError, Skipped

Row = dict[str, Any]
Picture = Callable[..., bytes]


@pytest.fixture
def row(picture: Picture) -> Row:
    """A multiple-choice question as MMMU stores it, with one image."""
    images: Row = {f"image_{number}": None for number in range(2, 8)}
    return {
        "id": "validation_Art_Theory_3",
        "question": "Who painted <image 1>?",
        "options": "['Monet', \"O'Keeffe\"]",
        "explanation": "",
        "image_1": {"bytes": picture(), "path": "x.png"},
        **images,
        "img_type": "['Paintings']",
        "answer": "B",
        "topic_difficulty": "Medium",
        "question_type": "multiple-choice",
        "subfield": "Art History",
    }


def read_all(path: Path) -> list[Problem | Skipped]:
    (file,) = problem_files(path, {})
    return list(file.problems())


def read(tmp_path: Path, *rows: Row) -> list[Problem | Skipped]:
    path = tmp_path / "validation.parquet"
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            name: pa.array(
                [row[name] for row in rows],
                type=cell
                if name.startswith("image_") and not isinstance(rows[0]["image_1"], bytes)
                else None,
            )
            for name in rows[0]
        }
    )
    pq.write_table(table, path)
    return read_all(path)


def test_a_choice_row_becomes_a_problem(tmp_path: Path, row: Row) -> None:
    (problem,) = read(tmp_path, row)
    assert isinstance(problem, Problem)
    assert problem.options == ("Monet", "O'Keeffe")
    assert (problem.answer, problem.answer_type) == ("B", AnswerType.CHOICE)
    assert (problem.family, problem.level, problem.solution) == ("Art_Theory", 2, None)
    assert problem.images[0].open().size == (30, 20)


def test_raw_bytes_are_images_too(tmp_path: Path, row: Row, picture: Picture) -> None:
    (problem,) = read(tmp_path, row | {"image_1": picture("P")})
    assert isinstance(problem, Problem)
    assert problem.images[0].open().mode == "P"


def test_images_inside_options_count_as_named(tmp_path: Path, row: Row) -> None:
    change = {
        "question": "Which follows <image 1>?",
        "options": "['<image 2>', '<image 3>']",
        "image_2": row["image_1"],
        "image_3": row["image_1"],
    }
    (problem,) = read(tmp_path, row | change)
    assert isinstance(problem, Problem)
    assert len(problem.images) == 3


@pytest.mark.parametrize(
    ("answer", "gold", "kind"),
    [
        ("1,250", "1,250", AnswerType.NUMBER),
        ("['$6', '6 dollars']", ("$6", "6 dollars"), AnswerType.OPEN),
        ("['0.5', '0.50', '0.5']", ("0.5", "0.50"), AnswerType.NUMBER),
        ("['mitochondria']", "mitochondria", AnswerType.TEXT),
        ("[1, 2]", "[1, 2]", AnswerType.TEXT),
        ("sodium", "sodium", AnswerType.TEXT),
        ("\\frac{1}{2}", "\\frac{1}{2}", AnswerType.EXPRESSION),
        ("[0, 2π)", "[0, 2π)", AnswerType.TEXT),
    ],
)
def test_an_open_question_keeps_every_accepted_answer(
    tmp_path: Path, row: Row, answer: str, gold: str | tuple[str, ...], kind: AnswerType
) -> None:
    (problem,) = read(tmp_path, row | {"question_type": "open", "options": "[]", "answer": answer})
    assert isinstance(problem, Problem)
    assert (problem.answer, problem.answer_type, problem.options) == (gold, kind, ())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": "Who painted it?"}, "do not match"),
        ({"question": "<image 1> <image 2>"}, "do not match"),
        ({"options": "__import__('os').getcwd()"}, "is not a list"),
        ({"answer": "?"}, "hides it"),
        ({"answer": ""}, "no answer"),
        ({"image_1": None}, "do not match"),
        ({"answer": "D"}, "none of the options"),
    ],
)
def test_a_bad_row_is_skipped_with_its_reason(
    tmp_path: Path, row: Row, change: Row, reason: str
) -> None:
    good, bad = read(tmp_path, row, row | {"id": "validation_Art_4"} | change)
    assert isinstance(good, Problem)
    assert isinstance(bad, Skipped)
    assert bad.id == "validation_Art_4"
    assert reason in bad.reason


def test_a_named_image_that_is_missing_is_a_reason(tmp_path: Path, row: Row) -> None:
    (bad,) = read(tmp_path, row | {"image_1": None, "image_2": row["image_1"]})
    assert isinstance(bad, Skipped)
    assert "placeholders (1) do not match the images [2]" in bad.reason


@pytest.mark.parametrize(
    ("question", "explanation", "shown", "solution"),
    [
        ("Who painted <image 1>?", "See <image 2>.", "Who painted <image 1>?", None),
        ("Who painted <image 1>?", "Him.", "Who painted <image 1>?", "Him."),
        ("Who painted <image 2>?", "In <image 2>.", "Who painted <image 1>?", "In <image 1>."),
        ("Who was born in 1840?", "<image 1><image 2>", "Who was born in 1840?", None),
    ],
)
def test_images_that_the_question_does_not_name_are_left_out(
    tmp_path: Path,
    row: Row,
    picture: Picture,
    question: str,
    explanation: str,
    shown: str,
    solution: str | None,
) -> None:
    second = {"bytes": picture("L"), "path": "2.png"}
    change = {"question": question, "explanation": explanation, "image_2": second}
    (problem,) = read(tmp_path, row | change)
    assert isinstance(problem, Problem)
    assert (problem.question, problem.solution) == (shown, solution)
    assert len(problem.images) == shown.count("<image")
    if "<image 2>" in question:
        assert problem.images[0].read() == second["bytes"]


def test_a_text_that_is_not_utf8_costs_its_row(tmp_path: Path, row: Row) -> None:
    path = tmp_path / "validation.parquet"
    read(tmp_path, row, row | {"id": "validation_Art_4", "explanation": "MARK"})
    table = pq.read_table(path).replace_schema_metadata()
    index = table.schema.get_field_index("explanation")
    texts = pa.array([b"", b"\xff"]).view(pa.string())
    pq.write_table(table.set_column(index, "explanation", texts), path)
    good, bad = read_all(path)
    assert isinstance(good, Problem)
    assert isinstance(bad, Skipped)
    assert (bad.id, "not UTF-8" in bad.reason) == ("validation.parquet:2", True)


def test_a_row_without_a_usable_id_is_named_by_its_number(tmp_path: Path, row: Row) -> None:
    items = read(tmp_path, row | {"id": ""}, row | {"id": "a\nb"})
    assert [item.id for item in items] == ["validation.parquet:1", "validation.parquet:2"]
    assert all(isinstance(item, Skipped) and item.reason.isprintable() for item in items)


def test_a_parquet_of_something_else_names_the_missing_columns(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"id": ["1"], "question": ["?"]}), path)
    with pytest.raises(ProblemError, match="options, answer, image_1"):
        read_all(path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ProblemError, match=r"broken\.parquet: cannot be read"):
        read_all(path)
