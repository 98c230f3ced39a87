"""Foreign layouts: each file loads as its authors publish it, and a bad cell costs its row."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import make_layouts
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kvl.configs.common import ProblemSource
from kvl.problems.jsonl import records_of, write_jsonl
from kvl.problems.layouts.known import KNOWN
from kvl.problems.layouts.picture_cells import Place
from kvl.problems.loading import load_problems
from kvl.problems.reading import problem_files
from kvl.problems.types import AnswerType, Problem, ProblemError

Row = dict[str, Any]
ROWS = {**make_layouts.TABLES, "VLMEvalKit TSV": make_layouts.vlmevalkit}


def load(path: Path, **settings: Any) -> list[Problem]:
    """The problems of a file of which every row is one."""
    problems, skipped = load_problems(ProblemSource(path=path, **settings))
    assert skipped == []
    return problems


def lines(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def reason(path: Path) -> str:
    """Why the first row of a file is skipped."""
    (file,) = problem_files(path, {})
    item = next(iter(file.problems()))
    assert not isinstance(item, Problem)
    return item.reason


@pytest.mark.parametrize("name", ROWS)
def test_every_layout_is_recognised_and_every_row_loads(tmp_path: Path, name: str) -> None:
    path = make_layouts.write_all(tmp_path)[name]
    (file,) = problem_files(path, {})
    assert file.layout_name == name.partition(",")[0]
    problems = load(path)
    assert len(problems) == len(ROWS[name]())
    for problem in problems:
        assert all(image.open().size == (64, 48) for image in problem.images)


def test_images_bind_in_order_and_ids_are_counted(tmp_path: Path) -> None:
    path = make_layouts.write_parquet(make_layouts.easyr1(), tmp_path / "train.parquet")
    first, second = load(path)
    assert (first.id, second.id) == ("train/1", "train/2")
    assert second.question == "<image 1>and <image 2>together show how many bars?"
    assert [image.read() for image in second.images] == [make_layouts.png(1), make_layouts.png(2)]


def test_pictures_that_no_text_names_come_first(tmp_path: Path) -> None:
    path = make_layouts.write_parquet(make_layouts.trl_string(), tmp_path / "train.parquet")
    assert load(path)[0].question == "<image 1><image 2>Count both."


def test_a_solution_gives_its_final_answer_and_lettered_options_make_a_choice(
    tmp_path: Path,
) -> None:
    path = make_layouts.write_parquet(make_layouts.trl(), tmp_path / "train.parquet")
    assert [(one.answer, one.answer_type, len(one.images)) for one in load(path)] == [
        ("2", AnswerType.OPEN, 1),
        ("A", AnswerType.CHOICE, 1),
        ("4", AnswerType.OPEN, 0),
    ]


def test_verl_takes_the_gold_of_the_reward_model_and_only_the_user_turn(tmp_path: Path) -> None:
    (problem,) = load(make_layouts.write_parquet(make_layouts.verl(), tmp_path / "a.parquet"))
    assert problem.question == "<image 1>What is half the number of bars?"
    assert (problem.answer, problem.family) == ("\\frac{3}{2}", "math")


def test_typed_parts_hold_their_own_pictures(tmp_path: Path) -> None:
    url = "data:image/png;base64," + base64.b64encode(make_layouts.png(2)).decode()
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "How many?"},
    ]
    chat = [{"role": "user", "content": parts}]
    (problem,) = load(lines(tmp_path / "a.jsonl", {"prompt": chat, "answer": 2}))
    assert (problem.question, problem.answer) == ("<image 1>How many?", "2")
    assert problem.images[0].read() == make_layouts.png(2)


def test_mathvista_answers_become_letters_and_keep_precision(tmp_path: Path) -> None:
    path = make_layouts.write_parquet(make_layouts.mathvista(), tmp_path / "mini.parquet")
    choice, decimal, _, listed = load(path)
    assert (choice.answer, choice.options) == ("B", ("two bars", "three bars"))
    assert (decimal.precision, decimal.question) == (1, "<image 1>How wide? (Unit: m)")
    assert (listed.answer, listed.answer_type) == ("[1, 2]", AnswerType.LIST)


def test_an_option_that_is_a_letter_counts_as_text_in_mathvista_only(tmp_path: Path) -> None:
    vista = make_layouts.mathvista()[:1]
    vista[0] |= {"choices": ["B", "A"], "answer": "A"}
    assert load(make_layouts.write_parquet(vista, tmp_path / "a.parquet"))[0].answer == "B"
    tsv = make_layouts.vlmevalkit()[:1]
    tsv[0] |= {"A": "B", "B": "A", "answer": "A"}
    assert load(make_layouts.write_tsv(tsv, tmp_path / "a.tsv"))[0].answer == "A"


def test_a_composite_picture_of_math_vision_is_shown_once(tmp_path: Path) -> None:
    path = make_layouts.write_parquet(make_layouts.math_vision(), tmp_path / "test.parquet")
    _, composite, _ = load(path)
    assert composite.question.endswith("<image1>")
    assert composite.options == ("image 2", "image 3")


def test_mathverse_without_a_question_asks_with_its_own_query(tmp_path: Path) -> None:
    path = make_layouts.write_parquet(make_layouts.mathverse(), tmp_path / "mini.parquet")
    text, vision, _ = load(path)
    assert (text.options, text.answer) == (("2", "3"), "B")
    assert vision.question == "<image 1>Reason, then answer the question in the picture."


def test_a_picture_of_mmmu_pro_vision_keeps_its_options_to_itself(tmp_path: Path) -> None:
    path = make_layouts.write_parquet(make_layouts.mmmu_pro_vision(), tmp_path / "v.parquet")
    (problem,) = load(path)
    assert (problem.options, problem.answer_type) == ((), AnswerType.CHOICE)


def test_one_cell_of_a_tsv_may_hold_several_pictures(tmp_path: Path) -> None:
    one, several = load(make_layouts.write_tsv(make_layouts.vlmevalkit(), tmp_path / "t.tsv"))
    assert (one.options, one.answer, one.id) == (("2", "3"), "B", "0")
    assert [image.read() for image in several.images] == [make_layouts.png(2), make_layouts.png(3)]


def test_other_columns_are_mapped(tmp_path: Path) -> None:
    row = {"q": "How many?", "gold": ["2", "two"], "pic": "a.png", "answer": "of someone else"}
    path = lines(tmp_path / "a.jsonl", row)
    (tmp_path / "a.png").write_bytes(make_layouts.png(2))
    (problem,) = load(path, columns={"question": "q", "answer": "gold", "images": "pic"})
    assert (problem.question, problem.answer) == ("<image 1>How many?", ("2", "two"))
    with pytest.raises(ProblemError, match=r"columns\.answer: no column 'golds'; it has .*gold"):
        load(path, columns={"answer": "golds"})
    with pytest.raises(ProblemError, match="'quest' is none of id, question"):
        load(path, columns={"quest": "q"})


def test_a_file_that_fits_nothing_says_what_each_layout_lacks(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"q": "?", "gold": "1"})
    with pytest.raises(ProblemError) as error:
        load(path)
    message = str(error.value)
    assert "its columns are gold, q" in message
    assert all(f"  {layout.name}: " in message for layout in KNOWN)
    assert "columns: {question: COLUMN, answer: COLUMN" in message


def _as_json(folder: Path, table: datasets.Dataset) -> Path:
    path = folder / "a.json"
    path.write_text(json.dumps(table.to_list()))
    return path


def _as_arrow(folder: Path, table: datasets.Dataset) -> Path:
    path = folder / "a.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.data.schema) as writer:
        writer.write_table(table.data.table)
    return path


def _as_saved(folder: Path, table: datasets.Dataset) -> Path:
    table.save_to_disk(str(folder / "a"))
    return folder / "a"


def _as_dict(folder: Path, table: datasets.Dataset) -> Path:
    datasets.DatasetDict({"train": table}).save_to_disk(str(folder / "a"))
    return folder / "a"


def _as_saved_arrow(folder: Path, table: datasets.Dataset) -> Path:
    return next(_as_saved(folder, table).glob("*.arrow"))


def _as_shards(folder: Path, table: datasets.Dataset) -> Path:
    for place in range(2):
        part = table.shard(2, place, contiguous=True)
        part.to_parquet(str(folder / f"train-0000{place}-of-00002.parquet"))
    return folder


def _as_glob(folder: Path, table: datasets.Dataset) -> Path:
    _as_shards(folder, table)
    return folder / "*-of-*.parquet"


@pytest.mark.parametrize(
    "write",
    [_as_json, _as_arrow, _as_saved, _as_dict, _as_saved_arrow, _as_shards, _as_glob],
)
def test_every_kind_of_file_loads(
    tmp_path: Path, write: Callable[[Path, datasets.Dataset], Path]
) -> None:
    rows = [{"problem": f"{number} + 1?", "answer": str(number + 1)} for number in range(4)]
    problems = load(write(tmp_path, datasets.Dataset.from_list(rows)))
    assert [one.answer for one in problems] == ["1", "2", "3", "4"]
    assert len({one.id for one in problems}) == 4


def test_an_image_feature_is_not_decoded(tmp_path: Path) -> None:
    features = datasets.Features(
        problem=datasets.Value("string"),
        answer=datasets.Value("string"),
        images=datasets.List(datasets.Image()),
    )
    table = datasets.Dataset.from_list(make_layouts.easyr1(), features=features)
    table.save_to_disk(str(tmp_path / "a"))
    assert load(tmp_path / "a")[0].images[0].read() == make_layouts.png(3)


def test_files_of_one_name_in_different_folders_keep_their_ids_apart(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        lines(tmp_path / name / "a.jsonl", {"question": "1 + 1?", "answer": "2"})
    assert [one.id for one in load(tmp_path / "*/a.jsonl")] == ["x/a/1", "y/a/1"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "neither parquet files nor a saved dataset"),
        (("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"), "holds test, train"),
    ],
)
def test_a_folder_that_is_not_one_split_is_one_error(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    for name in names:
        make_layouts.write_parquet(make_layouts.easyr1(), tmp_path / name)
    with pytest.raises(ProblemError, match=message):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"7"),
        ("a.parquet", b"PAR1"),
        ("a.arrow", b"ARROW1 no"),
        ("a.json", b"[" * 100_000),
    ],
)
def test_a_broken_file_is_one_error_that_names_it(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ProblemError, match=path.name):
        load(path)


@pytest.mark.parametrize("picture", ["../secret.png", "/etc/hostname", "http://x.org/a.png", "\0"])
def test_pictures_outside_of_the_folder_are_skipped(tmp_path: Path, picture: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "secret.png").write_bytes(make_layouts.png(1))
    row = {"problem": "What?", "answer": "1", "images": [picture]}
    assert "image" in reason(lines(inner / "a.jsonl", row))
    table = row | {"images": [{"bytes": None, "path": picture}]}
    assert "image" in reason(make_layouts.write_parquet([table], inner / "a.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problem": "<image><image>?"}, "2 <image> in its text do not match 1"),
        ({"problem": "<image 1><image>?"}, "both <image> and numbered"),
        ({"answer": None}, "no answer"),
        ({"images": [7]}, "not an encoded image"),
        ({"images": ["data:image/png;base64,?"]}, "not base64"),
        ({"options": "__import__('os')"}, "is not a list"),
        ({"options": ["x", "y"], "answer": "z"}, "not one of the options"),
        ({"answer_type": "essay"}, "is none of choice"),
        ({"problem": [{"role": "user", "content": "a"}] * 2}, "other than one user turn"),
    ],
)
def test_a_bad_row_is_skipped_with_its_reason(tmp_path: Path, change: Row, message: str) -> None:
    (tmp_path / "a.png").write_bytes(make_layouts.png(1))
    row = {"id": "r", "problem": "<image>?", "answer": "1", "images": ["a.png"]}
    assert message in reason(lines(tmp_path / "a.jsonl", row | change))


@pytest.mark.parametrize(
    ("change", "answer", "options"),
    [
        ({"answer": "He has 17 + 1.\n#### 18"}, "18", ()),
        ({"answer": 0.5}, "0.5", ()),
        ({"answer": 2.0}, "2", ()),
        ({"answer": ["2", "two"]}, ("2", "two"), ()),
        ({"answer": "['2', 'two']"}, ("2", "two"), ()),
        ({"answer": [1, 2], "answer_type": "list"}, "1, 2", ()),
        ({"answer": "y", "options": {"A": "x", "B": "y", "C": None}}, "B", ("x", "y")),
        ({"answer": "(A)", "options": '["x", "y"]'}, "A", ("x", "y")),
        ({"answer": "A", "choices": "('B', 'A')"}, "A", ("B", "A")),
    ],
)
def test_answers_and_options_are_read_in_the_forms_people_write(
    tmp_path: Path, change: Row, answer: str | tuple[str, ...], options: tuple[str, ...]
) -> None:
    (problem,) = load(lines(tmp_path / "a.jsonl", {"question": "?"} | change))
    assert (problem.answer, problem.options) == (answer, options)


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("question\tanswer\tanswer\n1 + 1?\t2\t3\n")
    with pytest.raises(ProblemError, match=r"a\.tsv: two columns are named 'answer'"):
        load(tmp_path / "a.tsv")


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**400, 10**5000, 1e308, float("nan"), float("inf"), "", " ", "\0"),
    *("\ud83d", "[" * 5000, "[1, 2]", "['a'", "<image>", "<image 2>", "../a.png", "a" * 2000),
    *("A", [], {}, [[]], [None], [{}], ["x"] * 27, {"bytes": 7}, {"role": "user"}, b"\xff", (1,)),
    *([{"role": "user", "content": [None]}], [{"role": "user"}], "[{}]", "{'a': 1}", "\\boxed{"),
)


def test_whatever_a_cell_holds_a_row_is_a_problem_or_a_reason(tmp_path: Path) -> None:
    rng = random.Random(5)
    place = Place("a/1", (tmp_path.resolve(),))
    adapters = {layout.name: layout.problem for layout in KNOWN}
    made = 0
    for name, rows in ROWS.items():
        for row in rows() * 150:
            changed = row | {
                key: rng.choice(ODD) for key in rng.sample(list(row), rng.randint(1, 2))
            }
            with suppress(ProblemError):
                adapters[name.partition(",")[0]](changed, place)
                made += 1
    assert made


def test_our_schema_is_written_from_other_layouts(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"problem": "1 + 1?", "answer": "2"})
    problems = load(path)
    (record,) = records_of(problems, path, tmp_path / "out.jsonl")
    assert (record["id"], record["question"], record["answer_type"]) == ("a/1", "1 + 1?", "open")
    write_jsonl(problems, tmp_path / "again.jsonl")
    assert load(tmp_path / "again.jsonl") == problems


def test_a_text_that_is_not_utf8_costs_its_row_in_a_parquet_file(tmp_path: Path) -> None:
    texts = pa.array([b"1 + 1?", b"\xff"]).view(pa.string())
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"problem": texts, "answer": ["2", "2"]}), path)
    problems, skipped = load_problems(ProblemSource(path=path))
    assert (len(problems), [one.id for one in skipped]) == (1, ["a.parquet:2"])
