"""Graded responses as JSON lines."""

from __future__ import annotations

import io
import json
from pathlib import Path

from kvl.evaluation.records import write_transcripts
from kvl.evaluation.types import GradedResponse, Group
from kvl.problems.types import AnswerType, ImageSource, Problem
from kvl.rewards.types import Outcome, Verdict
from kvl.rollouts.types import Rollout, Segment, StopReason
from PIL import Image


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
    assert (wrong["outcome"], wrong["reason"], wrong["advantage"]) == ("no_answer", "nothing", None)
