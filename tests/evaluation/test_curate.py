"""What is worth training on, with a grader that is real and guesses that are not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kvl.configs.errors import ConfigError
from kvl.configs.rl import GraderConfig
from kvl.configs.rollout import EngineConfig, RolloutConfig
from kvl.evaluation import curate, sampling
from kvl.evaluation.curate import (
    SOME_THINKING,
    asks_for_proof,
    content,
    curate_file,
    drop_by_rule,
    is_true_false,
)
from kvl.evaluation.grading import grade_rollouts
from kvl.problems.types import AnswerType, ImageSource, Problem
from kvl.rewards.grader import Grader
from kvl.rollouts.types import Rollout, Segment, StopReason
from PIL import Image


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=1, timeout_seconds=60) as opened:
        yield opened


def problem(
    name: str = "p", question: str = "How many?", answer: str | tuple[str, ...] = "7", **more: Any
) -> Problem:
    kind = more.pop("kind", AnswerType.NUMBER)
    return Problem(name, question, more.pop("images", ()), answer, kind, **more)


def picture(shade: int) -> ImageSource:
    buffer = io.BytesIO()
    Image.new("L", (30, 30), shade).save(buffer, "PNG")
    return ImageSource(data=buffer.getvalue())


def guess(name: str, text: str, reason: StopReason = StopReason.STOP, sample: int = 0) -> Rollout:
    return Rollout(name, sample, (1,), (2,), (-1.0,), (Segment(0, 1, 0),), reason, text)


@pytest.mark.parametrize(
    ("question", "proof"),
    [
        ("Prove that the triangle is isosceles.", True),
        ("Let x > 0. Show that x + 1/x is at least 2.", True),
        ("Find x and then prove your claim.", True),
        ("如图,求证:AB = CD。", True),
        ("请证明两个三角形全等。", True),
        ("Which theorem is used to prove that AB = CD?", False),
        ("The waterproof coat costs 3 dollars. How much are two?", False),
    ],
)
def test_an_order_to_prove_is_a_proof(question: str, proof: bool) -> None:
    assert asks_for_proof(problem(question=question, answer="see", kind=AnswerType.TEXT)) is proof


def test_a_question_with_a_checkable_answer_may_mention_a_proof() -> None:
    assert not asks_for_proof(problem(question="Show that AB = CD and give its length."))


@pytest.mark.parametrize(
    ("found", "true_false"),
    [
        (problem(answer="True", kind=AnswerType.BOOL), True),
        (problem(answer="yes", kind=AnswerType.OPEN), True),
        (problem(answer="A", kind=AnswerType.CHOICE, options=("Yes", "No.")), True),
        (problem(answer="A", kind=AnswerType.CHOICE, options=("yes", "no", "5")), False),
        (problem(answer="7"), False),
    ],
)
def test_true_or_false_is_seen_by_type_gold_or_options(found: Problem, true_false: bool) -> None:
    assert is_true_false(found) is true_false


def test_equal_content_needs_equal_images_options_and_answer() -> None:
    shown = "What is it?\n<image1>"
    same = [problem(name, shown, images=(picture(9),)) for name in "ab"]
    assert content(same[0]) == content(same[1])
    others = [
        problem("c", shown, images=(picture(10),)),
        problem("d", shown, answer="8", images=(picture(9),)),
        problem("e", "What is that?\n<image1>", images=(picture(9),)),
        problem("f", shown, options=("7",), images=(picture(9),)),
        problem("g", shown, answer=("7", "8"), images=(picture(9),)),
    ]
    assert len({content(one) for one in [same[0], *others]}) == 6


def test_every_rule_drops_its_problem_and_keeps_the_first_of_equals(grader: Grader) -> None:
    kept, dropped = drop_by_rule(
        [
            problem("good"),
            problem("fraction", "What part?", r"\frac{1}{2}", kind=AnswerType.EXPRESSION),
            problem("choice", answer="B", kind=AnswerType.CHOICE, options=("1", "2")),
            problem("again"),
            problem("proof", "Prove it.", "done", kind=AnswerType.TEXT),
            problem("bool", "Is it?", "yes", kind=AnswerType.BOOL),
            problem("bad", "Which?", "AB", kind=AnswerType.CHOICE),
            problem("cut", "What part?", r"\frac{1}{", kind=AnswerType.EXPRESSION),
            problem("two", "Which?", "The answer is 4. The answer is 5", kind=AnswerType.TEXT),
            problem("easy", "How many dots?", pass_rate=1.0),
            problem("hard", "How many lines?", pass_rate=0.0),
        ],
        grader,
    )
    assert [one.id for one in kept] == ["good", "fraction", "choice", "hard"]
    assert {one.id: one.reason for one in dropped} == {
        "again": "duplicate",
        "proof": "proof",
        "bool": "true_false",
        "bad": "unparseable_answer",
        "cut": "unparseable_answer",
        "two": "unparseable_answer",
        "easy": "always_right",
    }
    assert next(one.detail for one in dropped if one.id == "again") == "of good"
    details = {one.id: one.detail for one in dropped}
    assert "not an option letter" in details["bad"]
    assert "cannot be parsed" in details["cut"]


def test_a_guess_counts_when_it_answers_at_once_and_ends(grader: Grader) -> None:
    problems = [problem(name) for name in "abcd"]
    guesses = [
        guess("a", "Answer: 7"),
        guess("a", "7", sample=1),
        guess("b", "Answer: 8"),
        guess("c", "◁think▷3 + 4◁/think▷Answer: 7"),
        guess("d", "Answer: 7", StopReason.LENGTH),
    ]
    groups = grade_rollouts(grader, problems, guesses, 1.0, SOME_THINKING)
    assert [sum(one.accuracy for one in group.responses) for group in groups] == [2, 0, 0, 0]
    spans = [one.verdict.span for one in groups[0].responses]
    assert spans == [(8, 9), (0, 1)], "in the guess, not in what it is graded behind"


class FakeFleet:
    """Guesses 7 for every problem, whatever it is asked; may die on the way."""

    asked: list[str] = []  # noqa: RUF012
    dies_at = ""

    def __init__(self, checkpoint: Path, rollout: RolloutConfig, seed: int) -> None:
        return

    def __enter__(self) -> FakeFleet:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def submit(self, problems, settings):
        assert settings.response_prefix == "◁think▷\n\n◁/think▷"
        return [(problem.id, sample) for problem in problems for sample in range(settings.samples)]

    def collect(self, guesses):
        names = list(dict.fromkeys(name for name, _ in guesses))
        if self.dies_at in names:
            raise RuntimeError("killed")
        self.asked.extend(names)
        return [guess(name, "Answer: 7", sample=sample) for name, sample in guesses], []


def record(name: str, answer: str, **more: Any) -> dict[str, Any]:
    question = f"How many {name}?"
    return {"id": name, "question": question, "answer": answer, "answer_type": "number", **more}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> type[FakeFleet]:
    monkeypatch.setattr(sampling, "Fleet", FakeFleet)
    monkeypatch.setattr(curate, "check_checkpoint", lambda folder: None)
    monkeypatch.setattr(FakeFleet, "asked", [])
    return FakeFleet


@pytest.mark.usefixtures("fleet")
def test_the_report_says_what_went_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [record("dots", "7"), record("lines", "12", note="mine"), record("none", "")]
    source, out = tmp_path / "in.jsonl", tmp_path / "deep/out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    curate_file(
        source,
        out,
        checkpoint=tmp_path,
        tries=8,
        rollout=RolloutConfig(),
        grading=GraderConfig(timeout_seconds=60),
    )
    assert [json.loads(line) for line in out.read_text().splitlines()] == [rows[1]]
    report = json.loads(out.with_suffix(".json").read_text())
    assert (report["read"], report["kept"]) == (3, 1)
    assert report["dropped"] == {"unusable": 1, "guessed": 1}
    assert {row["id"]: row["detail"] for row in report["rows"]}["dots"] == "8 of 8 tries"
    assert "guessed" in capsys.readouterr().out


def test_after_a_kill_only_the_rest_is_guessed_at(
    fleet: type[FakeFleet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [record(f"p{i}", "7" if i % 2 else "8") for i in range(6)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def curated(tries: int = 4) -> None:
        curate_file(
            source,
            out,
            checkpoint=tmp_path,
            tries=tries,
            # Two problems make a chunk.
            rollout=RolloutConfig(engine=EngineConfig(max_num_seqs=4)),
            grading=GraderConfig(timeout_seconds=60),
        )

    monkeypatch.setattr(fleet, "dies_at", "p4")
    with pytest.raises(RuntimeError, match="killed"):
        curated()
    assert not out.exists()
    guesses = tmp_path / "out.guesses.jsonl"
    guesses.write_bytes(guesses.read_bytes()[:-3])
    monkeypatch.setattr(fleet, "dies_at", "")
    with pytest.raises(ConfigError, match=r"out\.guesses\.jsonl: .*samples was 4, is 5"):
        curated(tries=5)
    fleet.asked.clear()
    curated()
    assert fleet.asked == ["p3", "p4", "p5"]
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows[::2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.json", "out.jsonl"]


def test_nothing_left_is_an_error_and_no_file(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps(record("easy", "7", pass_rate=1)) + "\n")
    with pytest.raises(ConfigError, match=r"no problem is left; .*out\.json says why"):
        curate_file(
            source,
            out,
            checkpoint=None,
            tries=8,
            rollout=RolloutConfig(),
            grading=GraderConfig(timeout_seconds=60),
        )
    assert not out.exists()
    assert json.loads(out.with_suffix(".json").read_text())["dropped"] == {"always_right": 1}
