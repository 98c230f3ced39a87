"""Small encoded images and files of records for the problem tests."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Record = dict[str, Any]


def encode(mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (30, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(buffer, format=kind)
    return buffer.getvalue()


@pytest.fixture
def picture() -> Callable[..., bytes]:
    return encode


@pytest.fixture
def record() -> Record:
    """A complete open problem with one image, `images/a.png`."""
    return {
        "id": "p/1",
        "source": "here",
        "language": "en",
        "question": "How many?\n<image1>",
        "images": ["images/a.png"],
        "options": [],
        "answer": "7",
        "answer_label": None,
        "answer_type": "number",
        "subject": "counting",
        "level": 3,
        "solution": None,
    }


@pytest.fixture
def write_records(tmp_path: Path) -> Callable[..., Path]:
    """Write records as lines, with `images/a.png` and `images/b.jpg` beside them."""

    def write(*records: Record) -> Path:
        images = tmp_path / "images"
        images.mkdir(exist_ok=True)
        (images / "a.png").write_bytes(encode("RGBA"))
        (images / "b.jpg").write_bytes(encode("RGB", "JPEG"))
        path = tmp_path / "problems.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
        return path

    return write
