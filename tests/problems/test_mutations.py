"""Damaged lines and pictures: every one loads or is skipped with a reason, whatever was damaged."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kvl.problems.jsonl import read_jsonl, write_jsonl
from kvl.problems.loading import load_problems
from kvl.problems.prompt import prompt_parts
from kvl.problems.types import ImageSource, Problem, ProblemError, Skipped, one_line
from PIL import Image

Record = dict[str, Any]

LINES, PICTURES = 3000, 1500

# What a field may hold instead of what it should.
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", " ", "\0", "\ud83d"),
    *("\n", "\x1b[2J", "A", "B", "Z", "[1, 2]", "<image1>", "<image 2>", f"<image{'9' * 5000}>"),
    *("../a.png", "/dev/zero", "a" * 300, "\u202e", "x" * 100_000, [], {}, [[]], ["\udfff"]),
    *(
        [None],
        ["x"] * 27,
        ["A", "B"],
        [1, 2.5],
        ["/dev/zero"],
        ["\0"],
        {"a": [1]},
        ["images/a.png"],
    ),
    *("choice", "multi-select", "list", "open", "bool"),
)
SNIPPETS = (b"\0", b"\r", b"\n", b"\xff", b"\xef\xbb\xbf", b"\\ud800", b"NaN", b"[" * 2000, b"{}")
SNIPPETS += (b'"', b"\\", b",", b"1" * 5000, b"\xed\xa0\x80", b"\xe2\x80\xa8")


def damaged(data: bytes, rng: random.Random, snippets: tuple[bytes, ...]) -> bytes:
    """A few bytes changed, put in, taken out, repeated or cut off."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 64))
        match rng.randrange(6):
            case 0:
                data = data[:place] + rng.randbytes(length) + data[place + length :]
            case 1:
                data = data[:place] + rng.choice(snippets) + data[place:]
            case 2:
                data = data[:place] + data[place + length :]
            case 3:
                data = data[:place] + data[place : place + length] * 3 + data[place + length :]
            case 4:
                data = data[:place] if rng.random() < 0.3 else data
            case _:
                bit = bytes([data[place] ^ 1 << rng.randrange(8)]) if place < len(data) else b""
                data = data[:place] + bit + data[place + 1 :]
    return data


def damaged_record(record: Record, rng: random.Random) -> bytes:
    changed = dict(record)
    for key in rng.sample(
        [*record, "precision", "composite_image", "conclusion"], rng.randint(1, 3)
    ):
        changed[key] = rng.choice(ODD)
    return json.dumps(changed, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")


def test_every_damaged_line_is_a_problem_or_a_reason(
    write_records: Callable[..., Path], record: Record, tmp_path: Path
) -> None:
    path = write_records(record)
    choice = record | {
        "options": ["x", "<image1>"],
        "question": "Which?",
        "answer": "x",
        "answer_type": "choice",
    }
    rng = random.Random(1)
    lines = []
    for number in range(LINES):
        whole = rng.choice((record, choice)) | {"id": f"p/{number}"}
        if number % 2:
            lines.append(damaged_record(whole, rng))
        else:
            lines.append(damaged(json.dumps(whole).encode(), rng, SNIPPETS))
    path.write_bytes(b"\n".join(lines) + b"\n")
    items = list(read_jsonl(path))
    assert len(items) >= LINES * 0.9, "a line that is blank now is none"
    problems = [item for item in items if isinstance(item, Problem)]
    skipped = [item for item in items if isinstance(item, Skipped)]
    assert min(len(problems), len(skipped)) > LINES // 10, "the damage is neither too small nor big"
    for one in skipped:
        assert one_line(one.id, 500) == one.id
        assert one_line(one.reason, 1000) == one.reason
        assert one.reason
    for one in problems:
        "".join(part for part in prompt_parts(one) if isinstance(part, str)).encode()
    # What was read can be written and read again: nothing was taken that no file can hold.
    kept = load_problems(Source(path))[0]
    assert write_jsonl(kept, tmp_path / "copy.jsonl") == len(kept) > LINES // 10
    again = load_problems(Source(tmp_path / "copy.jsonl"))[0]
    assert [(one.id, one.question, one.answer) for one in again] == [
        (one.id, one.question, one.answer) for one in kept
    ]


@dataclass(frozen=True)
class Source:
    path: Path
    limit: int | None = None
    prefix: str | None = None


def whole_pictures() -> list[bytes]:
    """One of every format, mode and extra that is told apart."""
    noise = Image.effect_noise((40, 24), 80)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = [
        *(
            (noise.convert(mode), "PNG", {})
            for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
        ),
        *((noise.convert(mode), "TIFF", {}) for mode in ("1", "L", "P", "RGB", "I", "F", "CMYK")),
        *((noise.convert(mode), "JPEG", {"exif": exif}) for mode in ("L", "RGB", "CMYK")),
        *((noise.convert("RGBA"), kind, {}) for kind in ("WEBP", "GIF", "BMP", "AVIF", "JPEG2000")),
        *((noise, "PNG", {"transparency": 3}), (noise.convert("RGB"), "PPM", {})),
        (noise.convert("RGB"), "PNG", {"exif": exif}),
        (noise, "GIF", {"save_all": True, "append_images": [noise.convert("1")]}),
        (noise.convert("RGB"), "TIFF", {"compression": "jpeg"}),
        (noise.convert("RGB"), "TIFF", {"compression": "tiff_lzw", "exif": exif}),
        (noise.convert("RGB"), "JPEG", {"progressive": True}),
    ]
    encoded = []
    for image, kind, how in made:
        buffer = io.BytesIO()
        image.save(buffer, kind, **how)
        encoded.append(buffer.getvalue())
    return encoded


@pytest.mark.filterwarnings("ignore")
def test_every_damaged_picture_opens_or_is_a_reason(
    write_records: Callable[..., Path], record: Record
) -> None:
    rng = random.Random(2)
    wholes = whole_pictures()
    names = [f"images/{number}" for number in range(PICTURES)]
    path = write_records(
        *(record | {"id": name, "images": [name]} for name in names), record | {"id": "whole"}
    )
    for name in names:
        data = damaged(rng.choice(wholes), rng, (b"\0" * 4, b"\xff" * 4, b"\xff\xd8", b"IEND"))
        (path.parent / name).write_bytes(data)
    problems, skipped = load_problems(Source(path))
    assert len(problems) + len(skipped) == PICTURES + 1
    assert min(len(problems), len(skipped)) > PICTURES // 10
    for one in skipped:
        assert one_line(one.reason, 1000) == one.reason
        assert one.reason.startswith("image ")
    for name in names:
        source = ImageSource(path=path.parent / name)
        try:
            image = source.open()
        except ProblemError:
            continue
        assert image.mode in ("1", "L", "P", "RGB", "RGBA")
        assert source.open(pixels=False).size == image.size
