"""The report is one safe, self-contained page, whatever the run folder holds."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from kvl.configs.errors import KVLError
from kvl.reports.cards import change_counts, evaluation_cards, picture, split_thinking
from kvl.reports.report import duration, write_report
from kvl.run_files.recorder import Recorder
from PIL import Image
from rich.console import Console

CONFIG = "checkpoint: runs/sft/final\niterations: 30\nmismatch_tolerance: 0.002\nseed: 5\n"
ATTACK = "◁think▷<script>alert(1)</script><img src=https://evil.example/x>◁/think▷<b>7</b>"


class References(HTMLParser):
    """Collects whatever the page's tags point at."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name.split(":")[-1] in ("src", "href", "srcset", "data", "action"):
                self.found.append(value or "")


def add_metrics(run_dir: Path, iterations: int) -> None:
    with Recorder(run_dir, (), iterations, Console(quiet=True)) as recorder:
        for iteration in range(iterations):
            with recorder.stage("rollout"):
                pass
            metrics = {"accuracy": 0.5, "mismatch_max": 1e-5, "entropy": float("nan")}
            recorder.log(iteration, metrics)


def sample(
    right: bool, text: str = "◁think▷3 + 4◁/think▷Answer: 7<|im_end|>", temperature: float = 1.0
) -> dict[str, Any]:
    return {
        "temperature": temperature,
        "text": text,
        "extracted": "7" if right else None,
        "outcome": "correct" if right else "incorrect",
        "stop_reason": "stop",
        "tokens": 9,
    }


def row(name: str, right: bool, image: str = "images/a.png", **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "family": name.split("/")[0],
        "level": 1,
        "question": "What is it?\n<image1>",
        "images": [image],
        "answer": "7",
        "options": [],
        "responses": [sample(right, temperature=0.0), sample(right), sample(not right)],
    } | changes


def add_evaluation(run_dir: Path, name: str, rows: list[dict[str, Any]], score: float) -> None:
    folder = run_dir / "evaluation"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("P", (8, 8)).save(folder / "images" / "a.png")
    part = {"pass_at_1": score, "greedy": score, "problems": len(rows)}
    summary = part | {
        "samples": 2,
        "by_family": {"sums": part, "angles": part},
        "by_level": {"1": part},
        "truncated_share": 0.0,
        "response_tokens_mean": 9.0,
    }
    (folder / f"{name}.json").write_text(json.dumps(summary))
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run with everything a report can show."""
    folder = tmp_path / "rl"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    add_metrics(folder, 30)
    add_evaluation(folder, "before", [row("sums/1", False), row("angles/1", True)], 0.4)
    attacked = row("sums/1", True, responses=[sample(True, ATTACK, temperature=0.0)])
    broken = row("angles/1", True, image="images/gone.png", question="<i>sly</i> <image1>")
    add_evaluation(folder, "after", [attacked, broken], 0.65)
    sft = tmp_path / "sft"
    sft.mkdir()
    lines = [json.dumps({"step": step, "loss": 1 / step}) for step in range(10, 50, 10)]
    (sft / "metrics.jsonl").write_text("\n".join(lines))
    return folder


def test_a_full_page(run_dir: Path) -> None:
    path = write_report(run_dir)
    page = path.read_text()
    assert path == run_dir / "report.html"
    for expected in (
        "finished",
        "40.0 %",
        "65.0 %",
        "+25.0 points",
        "pass@1 by family",
        "Engine–learner log-prob difference",
        "tolerance",
        "Supervised stage before this run",
        "image not found: images/gone.png",
        "1 wrong → right",
        "runs/sft/final",
    ):
        assert expected in page, expected
    assert page.count("data:image/png;base64,") == 1
    assert "images/a.png" not in page
    assert page.count("<svg") >= 5
    assert "NaN" not in page
    assert "nan" not in re.sub(r"data:image[^\"]*", "", page)


def test_model_text_stays_text_and_nothing_is_fetched(run_dir: Path) -> None:
    page = write_report(run_dir).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<i>sly" not in page
    references = References()
    references.feed(page)
    assert references.found
    assert [one for one in references.found if not one.startswith(("data:image/", "#"))] == []
    # The only address on the page is the escaped text of the response.
    assert re.findall(r"https?://[\w./]+", page) == ["https://evil.example/x"]


def test_same_folder_gives_the_same_page(run_dir: Path) -> None:
    assert write_report(run_dir).read_text() == write_report(run_dir).read_text()


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    page = write_report(tmp_path).read_text()
    assert "unfinished: 0 of 30 iterations" in page
    assert "No iteration has finished yet" in page
    assert "No evaluation before training" in page
    assert "No rollouts have been written yet" in page


def test_transcripts_stand_in_for_a_missing_evaluation(tmp_path: Path) -> None:
    add_metrics(tmp_path, 2)
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "after.json").write_text('{"pass_at_1": 0.')
    folder = tmp_path / "transcripts"
    folder.mkdir()
    Image.new("RGB", (900, 30)).save(folder / "wide.tiff")
    samples = [
        {**sample(False, "low"), "reward": 0.0, "sample": 0},
        {**sample(False, "neither best nor worst"), "reward": 0.5, "sample": 1},
        {**sample(True, "high"), "reward": 1.0, "sample": 2},
    ]
    line = json.dumps(row("sums/1", True, image="wide.tiff", responses=samples))
    (folder / "iteration_000001.jsonl").write_text(line + '\n{"id": "cut of')
    page = write_report(tmp_path).read_text()
    assert "Iteration 1, sample 0" in page
    assert "Iteration 1, sample 2" in page
    assert "neither best nor worst" not in page
    assert "after.json is not readable" in page
    assert page.count("data:image/png;base64,") == 1


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(KVLError, match=r"no config\.yaml and no metrics\.jsonl"):
        write_report(tmp_path)
    with pytest.raises(KVLError, match="no such run folder"):
        write_report(tmp_path / "nowhere")


def test_only_images_are_embedded(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_text("password")
    shown = picture(str(secret), ())
    assert shown.uri == ""
    assert "not readable" in shown.problem


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("◁think▷a◁/think▷b<|im_end|>", "a", "b"),
        ("a◁/think▷b", "a", "b"),
        ("◁think▷never ends", "never ends", ""),
        ("just text", None, "just text"),
        ("", None, ""),
    ],
)
def test_split_thinking(text: str, thinking: str | None, answer: str) -> None:
    assert split_thinking(text) == (thinking, answer)


def test_the_choice_of_rollouts_mixes_families_and_changes(tmp_path: Path) -> None:
    names = [f"{family}/{number}" for family in ("sums", "angles") for number in range(20)]
    before = [row(name, right=index % 4 < 2) for index, name in enumerate(names)]
    after = [row(name, right=index % 2 == 0) for index, name in enumerate(names)]
    rows = {"before": before, "after": after}
    cards = evaluation_cards(rows, tmp_path)
    assert [card.family for card in cards] == ["angles", "sums"] * 6
    kinds = {tuple(response.correct for response in card.responses) for card in cards}
    assert len(kinds) == 4, "mended, broken, right and wrong both times are all shown"
    assert change_counts(rows) == {
        "wrong → right": 10,
        "right → wrong": 10,
        "right both times": 10,
        "wrong both times": 10,
    }
    assert change_counts({"after": after}) == {}


def test_records_of_older_versions_are_shown(tmp_path: Path) -> None:
    old = row("sums/1", True)
    del old["responses"]
    drawn = {"samples": [sample(False), sample(True)], "greedy": sample(True, "greedy text")}
    for one in (*drawn["samples"], drawn["greedy"]):
        del one["temperature"]
    rows = {"before": [old | drawn], "after": [row("sums/1", False)]}
    (card,) = evaluation_cards(rows, tmp_path)
    before, after = card.responses
    assert (before.answer, before.siblings) == ("greedy text", ("incorrect", "correct"))
    assert after.siblings == ("incorrect", "correct")
    assert change_counts(rows)["right → wrong"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"responses": None},
        {"responses": [3, None, {}]},
        {"responses": {"text": "a"}, "samples": 4, "greedy": "x"},
        {"responses": [{"text": None, "tokens": "9", "extracted": ["7"], "reward": "high"}] * 2},
        {"images": "a.png", "options": "AB", "id": ["odd"], "answer": ["7", "8"], "level": {}},
    ],
)
def test_odd_records_cost_only_themselves(run_dir: Path, changes: dict[str, Any]) -> None:
    add_evaluation(run_dir, "after", [row("sums/1", True) | changes, row("angles/1", True)], 0.5)
    assert "angles" in write_report(run_dir).read_text()
    for path in (run_dir / "evaluation").glob("*.json*"):
        path.unlink()
    (run_dir / "transcripts").mkdir()
    line = json.dumps(row("sums/1", True) | changes)
    (run_dir / "transcripts/iteration_000001.jsonl").write_text(line + "\n")
    assert "sums" in write_report(run_dir).read_text()


def test_duration() -> None:
    assert [duration(8.24), duration(245), duration(7810)] == ["8.2 s", "4 min 05 s", "2 h 10 min"]


@pytest.mark.parametrize("name", ["{outside}", "../secret.png", "link.png", "pipe"])
def test_only_pictures_of_the_runs_problems_are_embedded(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    folder = tmp_path / "problems"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pipe")
    name = name.format(outside=tmp_path / "secret.png")
    shown = picture(name, (folder,))
    assert shown.uri == ""
    assert "not readable" in shown.problem
    if name != "pipe":
        assert picture(name, (folder, tmp_path)).uri


def test_images_beside_the_problem_file_are_embedded(run_dir: Path) -> None:
    folder = run_dir.parent / "data"
    for name in ("problems", "more"):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), "red" if name == "more" else "blue").save(folder / name / "b.png")
    shown = [
        row("sums/1", True, image=str(folder / "problems/b.png")),
        row("angles/1", True, image=str(folder / "more/b.png")),
    ]
    add_evaluation(run_dir, "after", shown, 0.65)
    source: dict[str, Any] = {"path": str(folder / "problems/p.jsonl")}
    for roots, embedded in (([], 1), ([str(folder / "more")], 2)):
        config = {"problems": [source | {"image_roots": roots}]}
        (run_dir / "config.yaml").write_text(json.dumps(config))
        assert write_report(run_dir).read_text().count("data:image/png;base64,") == embedded


def test_a_picture_is_shown_as_the_model_sees_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert picture("a.jpg", (tmp_path,)).width == 20
