"""Demonstrations beside the rollouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from kvl.configs.common import ProblemSource
from kvl.configs.errors import KVLError
from kvl.configs.rl import PTXConfig
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.jsonl import write_jsonl
from kvl.problems.loading import load_problems
from kvl.problems.synthetic import generate
from kvl.problems.types import ImageSource, ProblemError
from kvl.rl.learner.batch import pack
from kvl.rl.learner.demonstrations import Demonstrations, demonstration
from kvl.rl.learner.policy import Policy
from kvl.sft.collator import PackingCollator
from kvl.sft.data import encode_document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ptx")
    write_tiny_checkpoint(folder / "tiny", texts=["How many circles? Plan: count by row."] * 20)
    write_jsonl(generate("train", 5, ["counting", "compare"], [1], 0), folder / "problems.jsonl")
    return folder


def source(folder: Path) -> PTXConfig:
    problems = ProblemSource(path=folder / "problems.jsonl")
    return PTXConfig(problems=problems, documents=3)


def test_the_term_is_the_supervised_loss_of_the_same_documents(folder: Path) -> None:
    model = load_model(folder / "tiny")
    processor = KimiVLProcessor.from_pretrained(folder / "tiny")
    documents = Demonstrations(source(folder), processor).at(0)
    batch = pack(
        documents,
        lambda image: processor.image_processor.patchify(image.open()),
    )
    problems, _ = load_problems(source(folder).problems)
    rows = [encode_document(problem, processor, 4096) for problem in problems[:3]]
    with torch.no_grad():
        logprob_R, _entropy = Policy(model, (), temperature=1.0, chunk=64)(batch)
        supervised = model(**PackingCollator(processor.image_processor)(rows)).loss
    assert logprob_R.numel() == sum(row["reply_tokens"] for row in rows)
    torch.testing.assert_close(-logprob_R.mean(), supervised)


def test_an_image_is_decoded_by_the_pack_and_not_before(folder: Path) -> None:
    processor = KimiVLProcessor.from_pretrained(folder / "tiny")
    (problem, *_), _skipped = load_problems(source(folder).problems)
    whole = demonstration(problem, processor)
    cut = [ImageSource(data=image.read()[:-60]) for image in problem.images]
    sequence = demonstration(replace(problem, images=tuple(cut)), processor)
    assert replace(sequence, images=whole.images) == whole
    with pytest.raises(ProblemError, match="cannot be decoded"):
        pack([sequence], lambda image: processor.image_processor.patchify(image.open()))


def test_steps_take_the_documents_in_turn(folder: Path) -> None:
    processor = KimiVLProcessor.from_pretrained(folder / "tiny")
    demonstrations = Demonstrations(source(folder), processor)
    documents = [demonstration(problem, processor) for problem in demonstrations.problems]
    taken = [[documents.index(one) for one in demonstrations.at(step)] for step in range(3)]
    assert taken == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_without_a_written_solution_there_is_one_error(folder: Path) -> None:
    records = (folder / "problems.jsonl").read_text().replace('"solution": "', '"note": "')
    (folder / "bare.jsonl").write_text(records)
    bare = PTXConfig(problems=ProblemSource(path=folder / "bare.jsonl"))
    with pytest.raises(KVLError, match="no problem with a written solution"):
        Demonstrations(bare, KimiVLProcessor.from_pretrained(folder / "tiny"))
