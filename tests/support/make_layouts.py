"""Files in the columns of each known layout, with content of our own: `make_layouts.py FOLDER`.

One row of every kind that a layout has, pictures as the bytes of PNG files.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

Row = dict[str, Any]


def png(number: int) -> bytes:
    """A picture with as many bars as `number`."""
    image = Image.new("RGB", (64, 48), "white")
    for place in range(number):
        ImageDraw.Draw(image).rectangle((4 + 12 * place, 8, 10 + 12 * place, 40), fill="navy")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def cell(number: int) -> Row:
    return {"bytes": png(number), "path": f"{number}.png"}


def easyr1() -> list[Row]:
    return [
        {"images": [cell(3)], "problem": "<image>How many bars are there?", "answer": "3"},
        {
            "images": [cell(1), cell(2)],
            "problem": "<image>and <image>together show how many bars?",
            "answer": "3",
        },
    ]


def verl() -> list[Row]:
    chat = [
        {"role": "system", "content": "Think first."},
        {"role": "user", "content": "<image>What is half the number of bars?"},
    ]
    return [
        {
            "data_source": "bars",
            "prompt": chat,
            "images": [cell(3)],
            "ability": "math",
            "reward_model": {"ground_truth": "\\frac{3}{2}", "style": "rule"},
            "extra_info": {"index": 0, "split": "train"},
        }
    ]


def trl() -> list[Row]:
    return [
        {
            "prompt": [{"role": "user", "content": "How many bars?"}],
            "image": cell(2),
            "solution": "<think>One, two.</think><answer> 2 </answer>",
        },
        {
            "prompt": [{"role": "user", "content": "More than one?\nA. yes\nB. no"}],
            "image": cell(2),
            "solution": "\\boxed{A}",
        },
        {
            "prompt": [{"role": "user", "content": "What is 2 + 2?"}],
            "image": None,
            "solution": "4",
        },
    ]


def trl_string() -> list[Row]:
    return [{"prompt": "Count both.", "images": [cell(1), cell(2)], "answer": "3"}]


def _mmmu_pictures(*numbers: int) -> Row:
    shown = [*map(cell, numbers), *[None] * 7][:7]
    return {f"image_{place}": one for place, one in enumerate(shown, start=1)}


def mmmu() -> list[Row]:
    shared = {
        "explanation": "",
        "img_type": "['Plots and Charts']",
        "topic_difficulty": "Easy",
        "subfield": "Bars",
    }
    return [
        {
            "id": "validation_Accounting_1",
            "question": "How many bars has <image 1>?",
            "options": "['1', '2', \"it's 3\"]",
            "answer": "C",
            "question_type": "multiple-choice",
            **shared,
            **_mmmu_pictures(3),
        },
        {
            "id": "validation_Accounting_2",
            "question": "<image 2> has how many bars more than <image 1>?",
            "options": "[]",
            "answer": "['1', 'one']",
            "question_type": "open",
            **shared,
            **_mmmu_pictures(2, 3),
        },
    ]


def mmmu_pro() -> list[Row]:
    return [
        {
            "id": "test_History_1",
            "question": "How many bars has <image 1>?",
            "options": str([str(number) for number in range(1, 11)]),
            "explanation": "",
            **_mmmu_pictures(4),
            "img_type": "['Plots and Charts']",
            "answer": "D",
            "topic_difficulty": "Hard",
            "subject": "History",
        }
    ]


def mmmu_pro_vision() -> list[Row]:
    options = "['one', 'two', 'three']"
    return [
        {
            "id": "test_History_1",
            "image": cell(3),
            "options": options,
            "answer": "C",
            "subject": "History",
        }
    ]


def mathvista() -> list[Row]:
    def row(pid: str, question: str, number: int, **other: Any) -> Row:
        return {
            "pid": pid,
            "question": question,
            "image": f"images/{pid}.jpg",
            "decoded_image": cell(number),
            "choices": None,
            "unit": None,
            "precision": None,
            "answer": "",
            "question_type": "free_form",
            "answer_type": "text",
            "metadata": {"task": "figure question answering", "language": "english"},
            "query": f"Hint: answer.\nQuestion: {question}",
            **other,
        }

    choice = {"choices": ["two bars", "three bars"], "question_type": "multi_choice"}
    return [
        row("1", "What is shown?", 3, answer="three bars", **choice),
        row("2", "How wide?", 1, answer="1.2", answer_type="float", precision=1.0, unit="m"),
        row("3", "How many?", 4, answer="4", answer_type="integer"),
        row("4", "Which bars are blue?", 2, answer="[1, 2]", answer_type="list"),
    ]


def math_vision() -> list[Row]:
    def row(identity: str, question: str, options: list[str], answer: str) -> Row:
        return {
            "id": identity,
            "question": question,
            "options": options,
            "image": f"images/{identity}.jpg",
            "decoded_image": cell(3),
            "answer": answer,
            "solution": None,
            "level": 2,
            "subject": "counting",
        }

    return [
        row("1", "How many bars are there?\n<image1>", [], "3"),
        row("2", "Which has most bars?\n<image1>", ["<image2>", "<image3>"], "B"),
        row("3", "How many bars?\n<image1>", ["2", "3", "4"], "B"),
    ]


def mathverse() -> list[Row]:
    def row(index: str, version: str, question: str, kind: str, answer: str) -> Row:
        return {
            "sample_index": index,
            "problem_index": "1",
            "problem_version": version,
            "question": question,
            "image": cell(3),
            "answer": answer,
            "question_type": kind,
            "metadata": {"subject": "Plane Geometry", "subfield": "Length"},
            "query_wo": "Answer directly.",
            "query_cot": "Reason, then answer the question in the picture.",
            "question_for_eval": question,
        }

    stem = "How many bars?\nChoices:\nA:2\nB:3"
    return [
        row("1", "Text Dominant", stem, "multi-choice", "B"),
        row("2", "Vision Only", "", "multi-choice", "B"),
        row("3", "Text Lite", "How many bars?", "free-form", "3"),
    ]


def vlmevalkit() -> list[Row]:
    pictures = [base64.b64encode(png(number)).decode() for number in (2, 3)]
    options = {"A": "2", "B": "3", "C": "", "D": ""}
    return [
        {
            "index": 0,
            "image": pictures[1],
            "question": "How many bars?",
            **options,
            "answer": "B",
            "category": "bars",
            "l2-category": "counting",
            "split": "dev",
        },
        {
            "index": 1,
            "image": str(pictures),
            "question": "How many bars are there\nin all?",
            **dict.fromkeys("ABCD", ""),
            "answer": "5",
            "category": "bars",
            "l2-category": "counting",
            "split": "dev",
        },
    ]


TABLES: Mapping[str, Any] = {
    "EasyR1 / Geometry3K": easyr1,
    "verl": verl,
    "TRL": trl,
    "TRL, a plain prompt": trl_string,
    "MMMU": mmmu,
    "MMMU-Pro standard": mmmu_pro,
    "MMMU-Pro vision": mmmu_pro_vision,
    "MathVista": mathvista,
    "MATH-Vision": math_vision,
    "MathVerse": mathverse,
}


def write_parquet(rows: list[Row], path: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_tsv(rows: list[Row], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_all(folder: Path) -> dict[str, Path]:
    """One file for each layout, by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {
        name: write_parquet(rows(), folder / f"{place:02}.parquet")
        for place, (name, rows) in enumerate(TABLES.items())
    }
    return made | {"VLMEvalKit TSV": write_tsv(vlmevalkit(), folder / "bars.tsv")}


if __name__ == "__main__":
    print(json.dumps({name: str(path) for name, path in write_all(Path(sys.argv[1])).items()}))
