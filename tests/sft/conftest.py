"""A tiny checkpoint and a handful of small image problems."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.jsonl import write_jsonl
from kvl.problems.types import AnswerType, ImageSource, Problem
from PIL import Image


def png(width: int, height: int, shade: int) -> ImageSource:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 255 - shade, 90)).save(buffer, "PNG")
    return ImageSource(data=buffer.getvalue())


def number_problem(index: int, **changes: object) -> Problem:
    """Problem `index`: one image, every third time two, whose solution grows with the index."""
    images = [png(30 + 14 * (index % 4), 40, 20 * index % 256)]
    question = "What number is shown?\n<image1>"
    if index % 3 == 2:
        images.append(png(20, 60, 200))
        question += " or here: <image2>?"
    fields: dict[str, object] = {
        "id": f"number/{index}",
        "question": question,
        "images": tuple(images),
        "answer": str(index),
        "answer_type": AnswerType.NUMBER,
        "solution": "Plan: look at the picture. " + f"I see {index}. " * (1 + index % 5),
    }
    return Problem(**{**fields, **changes})  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    return number_problem


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["Plan: look at the picture. I see 7. What number is shown? or here: Answer: 12"] * 20
    return write_tiny_checkpoint(tmp_path_factory.mktemp("sft") / "tiny", texts=texts)


@pytest.fixture(scope="session")
def processor(checkpoint: Path) -> KimiVLProcessor:
    return KimiVLProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="session")
def problems_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "train.jsonl"
    write_jsonl([number_problem(index) for index in range(10)], path)
    return path
