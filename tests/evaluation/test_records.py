"""Graded responses as JSON lines."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from kvl.evaluation.records import (
    json_line,
    record_of,
    recorded,
    responses_of,
    write_transcripts,
)
from kvl.evaluation.types import GradedResponse, Group
from kvl.problems.types import AnswerType, ImageSource, Problem
from kvl.rewards.types import Outcome, Verdict
from kvl.rollouts.types import Rollout, Segment, StopReason
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs/records.md"


def png_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, format="PNG")
    return buffer.getvalue()


def group(name: str, *images: ImageSource) -> Group:
    marks = "".join(f"<image{number}>" for number in range(1, len(images) + 1))
    problem = Problem(name, f"What? {marks}", images, "7", AnswerType.NUMBER, family="sums")
    verdicts = (
        Verdict(Outcome.CORRECT, "7", (6, 7), {"accuracy": 1.0}),
        Verdict(Outcome.NO_ANSWER, reason="nothing"),
    )
    return Group(
        tuple(
            GradedResponse(
                problem,
                Rollout(
                    name,
                    j,
                    (1, 2),
                    (3, 4),
                    (-0.1, -0.2),
                    (Segment(0, 2, 5),),
                    StopReason.STOP,
                    text,
                ),
                verdicts[j],
                advantage,
            )
            for j, (text, advantage) in enumerate((("right \u2028 text", 0.5), ("wrong", None)))
        )
    )


def test_transcripts_hold_each_image_once_and_every_response(tmp_path: Path) -> None:
    on_disk = tmp_path / "figure.png"
    on_disk.write_bytes(png_bytes())
    from_bytes = ImageSource(data=png_bytes())
    groups = [
        group("a", from_bytes, ImageSource(path=on_disk)),
        group("b", from_bytes),
        group("c"),
    ]
    folder = tmp_path / "transcripts"
    write_transcripts(folder, 12, groups, limit=2)
    write_transcripts(folder, 13, groups, limit=0)
    assert [path.name for path in folder.glob("*.jsonl")] == ["iteration_000012.jsonl"]
    first, second = map(json.loads, (folder / "iteration_000012.jsonl").read_text().split("\n")[:2])
    written, kept = first["images"]
    assert (folder / written).read_bytes() == png_bytes()
    assert written.endswith(".png")
    assert kept == str(on_disk)
    assert second["images"] == [written]
    right, wrong = first["responses"]
    assert (right["outcome"], right["reward"], right["advantage"]) == ("correct", 1.0, 0.5)
    assert right["span"] == [6, 7]
    assert right["versions"] == [5, 5]
    assert right["text"] == "right \u2028 text"
    assert (wrong["parts"], wrong["reward"]) == ({}, None), "not rewarded is not a reward of 0"
    assert (wrong["outcome"], wrong["reason"], wrong["advantage"]) == ("no_answer", "nothing", None)


def test_a_record_is_read_back_as_it_was(tmp_path: Path) -> None:
    own = group("a")
    record = json.loads(json_line(record_of(own, tmp_path)))
    assert responses_of(record) == tuple(recorded(one) for one in own.responses)
    assert responses_of({"responses": [{**record["responses"][0], "newer": 1}]})
    for broken in ({}, {"responses": [{}]}, {"responses": 3}, {"responses": [{"outcome": "?"}]}):
        with pytest.raises((ValueError, TypeError, KeyError)):
            responses_of(broken)


def test_the_documented_line_is_what_is_written(tmp_path: Path) -> None:
    (line,) = re.findall(r"```json\n(.*)\n```", DOCS.read_text(encoding="utf-8"))
    shown = json.loads(line)
    written = json.loads(json_line(record_of(group("a"), tmp_path)))
    assert list(shown) == list(written)
    assert list(shown["responses"][0]) == list(written["responses"][0])
    (response,) = responses_of(shown)
    start, end = response.span or (0, 0)
    assert response.text[start:end] == response.extracted
    assert response.accuracy == 1
    described = re.findall(r"^\| `(.*?)` \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for cell in described for name in cell.split("`, `")}
    assert {*shown, *shown["responses"][0]} <= named


def test_half_a_surrogate_pair_is_escaped() -> None:
    assert json_line({"text": "数"}) == '{"text": "数"}'
    assert json_line({"text": "数\ud800"}).isascii()
