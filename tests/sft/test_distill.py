"""Rows out of responses, what they train to, and resuming; engines are scripted here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, Image, List, load_dataset
from kvl.configs.common import ProblemSource
from kvl.configs.errors import ConfigError, KVLError
from kvl.configs.rl import GraderConfig
from kvl.configs.rollout import EngineConfig, RolloutConfig
from kvl.evaluation import sampling
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.logprobs import token_logprobs
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.problems.jsonl import write_jsonl
from kvl.problems.loading import load_problems
from kvl.problems.prompt import prompt_parts, target_text
from kvl.problems.types import ImageSource, Problem
from kvl.rollouts.types import Rollout, RolloutFailure, SamplingSettings, Segment, StopReason
from kvl.run_files.identity import digest
from kvl.sft.data import build_dataset
from kvl.sft.distill import Choice, distill
from kvl.sft.preference_training import PreferenceCollator, preference_policy
from trl.data_utils import is_conversational, prepare_multimodal_messages
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer

MakeProblem = Callable[..., Problem]
SETTINGS = SamplingSettings(samples=4, temperature=1.0, max_response_tokens=64, seed=5)
SHORTEST, DIVERSE, PAIRS = (
    Choice("sft", "shortest", 4),
    Choice("sft", "diverse", 4),
    Choice("dpo", "shortest", 4),
)


def thought(thinking: str, answer: str = "Answer: 7") -> str:
    return f"◁think▷{thinking}◁/think▷{answer}"


class ScriptedFleet:
    """Answers with `script(problem)`; remembers what it was asked for."""

    asked: list[str]
    script: Callable[[Problem], Sequence[str]]

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> ScriptedFleet:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, problems: Sequence[Problem], settings: SamplingSettings) -> Sequence[Problem]:
        return problems

    def collect(self, problems: Sequence[Problem]) -> tuple[list[Rollout], list[RolloutFailure]]:
        rollouts, failures = [], []
        for problem in problems:
            type(self).asked.append(problem.id)
            texts = type(self).script(problem)
            if not texts:
                failures.append(RolloutFailure(problem.id, "too long"))
            for sample, text in enumerate(texts):
                ids = tuple(range(len(text.split()) + 1))
                rollouts.append(
                    Rollout(
                        problem.id,
                        sample,
                        (1,),
                        ids,
                        (0.0,) * len(ids),
                        (Segment(0, len(ids), 0),),
                        StopReason.STOP,
                        text,
                    )
                )
        return rollouts, failures


def script(problem: Problem) -> Sequence[str]:
    """Problem 0 is never solved, problem 1 not sampled, the others solved in two lengths."""
    index = int(problem.id.partition("/")[2])
    if index == 1:
        return ()
    if index == 0:
        return [thought("no idea", "Answer: 99")] * 4
    return [
        thought(f"I see {index} and then I look at it again and again", f"Answer: {index}"),
        thought(f"I see {index}\n", f"It is \\boxed{{{index}}}"),
        thought("It may be anything, or nothing, or all of it", "Answer: 99"),
        "no thinking",
    ]


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedFleet]:
    class Fleet(ScriptedFleet):
        asked: list[str] = []  # noqa: RUF012

    Fleet.script = staticmethod(script)
    monkeypatch.setattr(sampling, "Fleet", Fleet)
    return Fleet


@pytest.fixture
def run(checkpoint: Path, problems_file: Path) -> Callable[..., list[dict[str, Any]]]:
    def start(
        out: Path,
        choice: Choice = SHORTEST,
        settings: SamplingSettings = SETTINGS,
        path: Path = problems_file,
    ) -> list[dict[str, Any]]:
        # Two problems a chunk.
        rollout = RolloutConfig(engine=EngineConfig(max_num_seqs=4))
        source = ProblemSource(path=path)
        distill(checkpoint, source, out, settings, choice, rollout, GraderConfig())
        return [json.loads(line) for line in out.read_text().splitlines()]

    return start


def test_rows_are_problems_that_train_reads_as_they_are(
    fleet, run, processor: KimiVLProcessor, checkpoint: Path, problems_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "elsewhere/sft.jsonl"
    rows = run(out)
    assert [row["id"] for row in rows] == [f"number/{i}#1" for i in range(2, 10)]
    problems, skipped = load_problems(ProblemSource(path=out))
    assert skipped == []
    originals = {p.id: p for p in load_problems(ProblemSource(path=problems_file))[0]}
    for row, problem in zip(rows, problems, strict=True):
        original = originals[row["problem_id"]]
        assert target_text(problem) == script(original)[1]
        assert [i.read() for i in problem.images] == [i.read() for i in original.images]
        provenance = {
            "checkpoint": str(checkpoint),
            "weights": digest(checkpoint),
            "sample": 1,
            "samples": 4,
            "seed": 5,
            "temperature": 1.0,
            "pass_rate": 0.5,
        }
        assert row.items() >= provenance.items()
        assert row["tokens"] == len(script(original)[1].split()) + 1
        assert row["kvl_version"]
    dataset, skipped = build_dataset(problems, processor, 512)
    assert len(dataset) == len(rows)
    assert skipped == []


def test_diverse_rows_have_ids_of_their_own(fleet, run, tmp_path: Path) -> None:
    rows = run(tmp_path / "sft.jsonl", DIVERSE)
    assert [row["id"] for row in rows[:2]] == ["number/2#1", "number/2#0"]
    problems, _ = load_problems(ProblemSource(path=tmp_path / "sft.jsonl"))
    assert len(problems) == len(rows) == 16


def test_every_problem_is_accounted_for(fleet, run, tmp_path: Path, capsys) -> None:
    run(tmp_path / "sft.jsonl")
    output = capsys.readouterr().out
    assert "8 rows from 8 of 9 problems; 1 without a correct sample" in output
    assert "not sampled number/1: too long" in output


def test_a_killed_run_goes_on_and_writes_what_an_unkilled_one_writes(
    fleet, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole.jsonl")
    out = tmp_path / "killed.jsonl"
    asked = fleet.asked
    asked.clear()

    def dies(problem: Problem) -> Sequence[str]:
        if problem.id == "number/5":
            raise KeyboardInterrupt
        return script(problem)

    fleet.script = staticmethod(dies)
    with pytest.raises(KeyboardInterrupt):
        run(out)
    assert not out.exists()
    log = out.with_suffix(".samples.jsonl")
    done = [json.loads(line)["id"] for line in log.read_text().splitlines()]
    assert done == ["number/0", "number/2", "number/3"]
    with log.open("a") as file:
        file.write('{"id": "number/4", "respon')

    asked.clear()
    fleet.script = staticmethod(script)
    assert run(out) == whole
    assert not set(done) & set(asked)
    assert "number/4" in asked
    assert log.read_text() == (tmp_path / "whole.samples.jsonl").read_text()


def test_another_choice_needs_no_new_samples(fleet, run, tmp_path: Path) -> None:
    out = tmp_path / "set.jsonl"
    run(out)
    fleet.asked.clear()
    assert len(run(out, DIVERSE)) == 16
    assert len(run(out, PAIRS)) == 16
    assert fleet.asked == ["number/1"] * 2  # what failed is tried again


def test_a_problem_that_changed_is_sampled_again(
    fleet, run, make_problem: MakeProblem, tmp_path: Path
) -> None:
    problems = [make_problem(index) for index in range(2, 6)]
    write_jsonl(problems, tmp_path / "problems.jsonl")
    run(tmp_path / "set.jsonl", path=tmp_path / "problems.jsonl")
    fleet.asked.clear()
    problems[1] = make_problem(3, question="What else is shown?\n<image1>")
    write_jsonl(problems, tmp_path / "problems.jsonl")
    rows = run(tmp_path / "set.jsonl", path=tmp_path / "problems.jsonl")
    assert fleet.asked == ["number/3"]
    assert rows[1]["question"].startswith("What else")


def test_a_gold_that_no_answer_can_meet_is_named_and_not_asked(
    fleet, run, make_problem: MakeProblem, tmp_path: Path, capsys
) -> None:
    problems = [make_problem(index) for index in range(2, 5)]
    problems[1] = replace(problems[1], answer="see the figure")
    write_jsonl(problems, tmp_path / "problems.jsonl")
    assert len(run(tmp_path / "set.jsonl", path=tmp_path / "problems.jsonl")) == 2
    assert fleet.asked == ["number/2", "number/4"]
    assert "skipped number/3: gold answer 'see the figure' is not" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.6}, "temperature was 1.0, is 0.6"),
        ({"seed": 6}, "seed was 5, is 6"),
        ({"samples": 8}, "samples was 4, is 8"),
    ],
)
def test_samples_of_other_settings_are_not_mixed(
    fleet, run, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    run(tmp_path / "set.jsonl")
    fields = {"samples": 4, "temperature": 1.0, "max_response_tokens": 64, "seed": 5} | change
    with pytest.raises(KVLError, match=message):
        run(tmp_path / "set.jsonl", settings=SamplingSettings(**fields))


def test_a_file_that_distill_did_not_write_is_not_replaced(fleet, run, problems_file: Path) -> None:
    before = problems_file.read_bytes()
    with pytest.raises(ConfigError, match="was not written by distill"):
        run(problems_file)
    assert problems_file.read_bytes() == before


def test_a_damaged_line_of_samples_is_named(fleet, run, tmp_path: Path) -> None:
    run(tmp_path / "set.jsonl")
    log = tmp_path / "set.samples.jsonl"
    log.write_text("{}\n" + log.read_text())
    with pytest.raises(KVLError, match=r"set\.samples\.jsonl:1: not a line of records"):
        run(tmp_path / "set.jsonl")


# Preference pairs


@pytest.fixture
def pairs(fleet, run, tmp_path: Path) -> Dataset:
    """As the docs load them."""
    run(tmp_path / "pairs.jsonl", PAIRS)
    loaded = load_dataset(
        "json",
        data_files=str(tmp_path / "pairs.jsonl"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert isinstance(loaded, Dataset)
    return loaded.cast_column("images", List(Image()))


def test_pairs_are_conversational_rows_with_images_where_the_question_names_them(
    pairs: Dataset, problems_file: Path
) -> None:
    problems = {p.id: p for p in load_problems(ProblemSource(path=problems_file))[0]}
    assert len(pairs) == 16
    for row in pairs:
        assert isinstance(row, dict)
        problem = problems[row["problem_id"]]
        assert is_conversational(row)
        (message,) = prepare_multimodal_messages(row["prompt"], images=row["images"])
        for written, part in zip(message["content"], prompt_parts(problem), strict=True):
            if isinstance(part, ImageSource):
                assert written["image"].size == part.open().size
            else:
                assert written["text"] == part
        assert row["chosen"] == [{"role": "assistant", "content": script(problem)[1]}]
        (rejected,) = row["rejected"]
        assert rejected["content"] == script(problem)[row["rejected_sample"]]
        assert row["rejected_tokens"] > row["chosen_tokens"]


def test_the_collator_pads_prompts_and_replies_apart(
    pairs: Dataset, processor: KimiVLProcessor
) -> None:
    rows = [pairs[0], pairs[4]]
    batch = PreferenceCollator(processor)(rows)
    for index, text in enumerate(
        row[side][0]["content"] for side in ("chosen", "rejected") for row in rows
    ):
        ids = batch["input_ids"][index]
        reply = ids[batch["completion_mask"][index].bool()]
        assert processor.tokenizer.decode(reply) == text + "<|im_end|>"
        padding = ids[~batch["attention_mask"][index].bool()]
        assert set(padding.tolist()) <= {processor.chat.control("[PAD]")}
    runs = (batch["input_ids"] == processor.chat.control("<|media_pad|>")).sum()
    assert runs == 2 * batch["image_grid_hws"].prod(-1).sum() // 4


def test_dpo_trainer_takes_steps_on_the_pairs(
    pairs: Dataset, checkpoint: Path, processor: KimiVLProcessor, tmp_path: Path
) -> None:
    policy = load_model(checkpoint)
    trainer = DPOTrainer(
        model=preference_policy(policy),
        ref_model=preference_policy(load_model(checkpoint)),
        processing_class=processor,
        data_collator=PreferenceCollator(processor),
        train_dataset=pairs.select(range(2)),
        args=DPOConfig(
            output_dir=str(tmp_path / "dpo"),
            per_device_train_batch_size=2,
            max_steps=3,
            learning_rate=1e-3,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            gradient_checkpointing=False,
            bf16=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
    )
    # What TRL computes is the sum of the model's own log-probabilities of the reply.
    batch = PreferenceCollator(processor)([pairs[0], pairs[1]])
    chosen, rejected = trainer.compute_ref_log_probs(trainer.ref_model, batch)
    with torch.no_grad():
        inputs = {k: v for k, v in batch.items() if k not in ("attention_mask", "completion_mask")}
        hidden = policy.hidden_states(**inputs)  # pyright: ignore[reportArgumentType]
    mask = batch["completion_mask"][:, 1:].bool()
    for index, total in enumerate([*chosen, *rejected]):
        own, _ = token_logprobs(
            hidden[index, :-1][mask[index]],
            policy.language_model.lm_head.weight,
            batch["input_ids"][index, 1:][mask[index]],
        )
        torch.testing.assert_close(total, own.sum(), atol=1e-3, rtol=1e-5)

    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < losses[0] - 0.05
