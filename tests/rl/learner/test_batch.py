from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.logprobs import token_logprobs
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.kimi_vl_model.tokenization import banned_ids
from kvl.problems.prompt import prompt_parts
from kvl.problems.types import AnswerType, ImageSource, Problem
from kvl.rl.learner.batch import (
    Batch,
    Patches,
    TokenSequence,
    pack,
    rollout_sequence,
    split_minibatches,
    split_packs,
)
from kvl.rollouts.types import Rollout, Segment, StopReason
from PIL import Image

Groups = list[list[TokenSequence]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    texts = ["How many red circles are shown in image one or two? What is this? system user"] * 20
    return write_tiny_checkpoint(tmp_path_factory.mktemp("batch") / "tiny", seed=0, texts=texts)


@pytest.fixture(scope="module")
def processor(folder: Path) -> KimiVLProcessor:
    return KimiVLProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> KimiVLForConditionalGeneration:
    """Weights of about unit gain, so that a wrong image or neighbour shows in a log-prob."""
    model = load_model(folder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                fan_in = 588 if "proj.weight" in name and parameter.ndim == 4 else 0
                scale = (fan_in or parameter.shape[-1]) ** -0.5
                scale = 1.0 if "embed_tokens" in name or "pos_emb" in name else scale
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return model


def picture(width: int, height: int, seed: int) -> ImageSource:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return ImageSource(data=buffer.getvalue())


PROBLEMS = [
    Problem("one", "How many?\n<image1>", (picture(50, 30, 0),), "7", AnswerType.NUMBER),
    Problem("none", "What is 3 + 4?", (), "7", AnswerType.NUMBER),
    Problem(
        "two",
        # Shown in another order than listed; the first one is named twice.
        "Compare <image2> with <image1>; what is in <image 2>?",
        (picture(28, 28, 1), picture(20, 90, 2)),
        "x",
        AnswerType.TEXT,
    ),
]


def prompt_ids(problem: Problem, processor: KimiVLProcessor) -> tuple[int, ...]:
    parts = [p.open() if isinstance(p, ImageSource) else p for p in prompt_parts(problem)]
    return processor.encode_prompt(parts).token_ids


def make_group(
    problem: Problem, prompt: Sequence[int], lengths: Sequence[int], seed: int = 0
) -> list[TokenSequence]:
    rng = random.Random(seed)
    rollouts = [
        Rollout(
            problem_id=problem.id,
            sample=sample,
            prompt_token_ids=tuple(prompt),
            response_token_ids=tuple(rng.randrange(256) for _ in range(length)),
            logprobs=tuple(-rng.random() for _ in range(length)),
            segments=(Segment(0, length, 0),),
            stop_reason=StopReason.STOP,
            text="",
        )
        for sample, length in enumerate(lengths)
    ]
    return [rollout_sequence(problem, rollout, rng.random()) for rollout in rollouts]


@pytest.fixture(scope="module")
def groups(processor: KimiVLProcessor) -> Groups:
    lengths = [(5, 1, 12), (3, 30), (7, 2, 2)]
    return [
        make_group(problem, prompt_ids(problem, processor), own, seed)
        for seed, (problem, own) in enumerate(zip(PROBLEMS, lengths, strict=True))
    ]


class Patchifier:
    """Counts its calls by image."""

    def __init__(self, processor: KimiVLProcessor) -> None:
        self.processor = processor
        self.calls: list[ImageSource] = []

    def __call__(self, source: ImageSource) -> Patches:
        self.calls.append(source)
        return self.processor.image_processor.patchify(source.open())


def every_member(groups: Sequence[list[TokenSequence]]) -> list[TokenSequence]:
    return [sequence for group in groups for sequence in group]


def batch_logprobs(
    model: KimiVLForConditionalGeneration, batch: Batch, banned: torch.Tensor
) -> torch.Tensor:
    hidden = model.hidden_states(
        batch.input_ids_T[None],
        pixel_values=batch.pixel_values,
        image_grid_hws=batch.image_grid_hws,
        image_index=batch.image_index,
        documents=batch.documents,
    )[0]
    return token_logprobs(
        hidden[batch.target_index_R],
        model.language_model.lm_head.weight,
        batch.target_id_R,
        banned_ids=banned,
    )[0]


def separate_logprobs(
    model: KimiVLForConditionalGeneration,
    processor: KimiVLProcessor,
    sequence: TokenSequence,
    banned: torch.Tensor,
) -> torch.Tensor:
    """Of one rollout alone: its own images, whole logits, a plain log-softmax."""
    shown = [image.open() for image in sequence.images]
    features = processor.image_processor.preprocess(shown) if shown else {}
    ids = torch.tensor([[*sequence.prompt_token_ids, *sequence.response_token_ids]])
    logits = model(ids, **features).logits[0]
    logprobs = logits.index_fill(1, banned, float("-inf")).log_softmax(-1)
    first = len(sequence.prompt_token_ids)
    return torch.stack([logprobs[t - 1, ids[0, t]] for t in range(first, ids.shape[1])])


@torch.no_grad()
@pytest.mark.parametrize("order", ["grouped", "mixed"])
def test_packed_logprobs_equal_those_of_each_rollout_alone(
    model: KimiVLForConditionalGeneration,
    processor: KimiVLProcessor,
    groups: Groups,
    order: str,
) -> None:
    members = every_member(groups)
    if order == "mixed":
        random.Random(3).shuffle(members)
    banned = torch.tensor(banned_ids(processor.tokenizer))
    batch = pack(members, Patchifier(processor))
    together = batch_logprobs(model, batch, banned)
    assert batch.sequences == len(members)
    for number, sequence in enumerate(members):
        own = batch.sequence_R == number
        expected = separate_logprobs(model, processor, sequence, banned)
        torch.testing.assert_close(together[own], expected, atol=1e-5, rtol=0)
        assert tuple(batch.target_id_R[own].tolist()) == sequence.response_token_ids
        assert batch.engine_logprob_R[own].tolist() == pytest.approx(sequence.engine_logprobs)
        assert batch.advantage_S[number].item() == pytest.approx(sequence.advantage)
    prompts = {one.prompt_token_ids for one in members}
    responses = sum(len(one.response_token_ids) for one in members)
    assert batch.input_ids_T.numel() == sum(map(len, prompts)) + responses


@torch.no_grad()
def test_each_prompt_sees_its_own_images(
    model: KimiVLForConditionalGeneration,
    processor: KimiVLProcessor,
    groups: Groups,
) -> None:
    members = every_member(groups)
    batch = pack(members, Patchifier(processor))
    banned = torch.tensor(banned_ids(processor.tokenizer))
    before = batch_logprobs(model, batch, banned)
    assert batch.pixel_values is not None
    changed = batch.pixel_values.clone()
    changed[:4] += 1.0  # in the picture of the first problem
    moved = (batch_logprobs(model, replace(batch, pixel_values=changed), banned) - before).abs()
    with_it = torch.tensor([one.images == PROBLEMS[0].images for one in members])[batch.sequence_R]
    assert moved[with_it].max() > 1e-3
    assert moved[~with_it].max() < 1e-5


def test_samples_of_a_group_share_one_image(processor: KimiVLProcessor, groups: Groups) -> None:
    patchify = Patchifier(processor)
    members = every_member(groups)
    random.Random(1).shuffle(members)
    batch = pack(members, patchify)
    distinct = [image for problem in PROBLEMS for image in problem.images]
    assert len(patchify.calls) == len(distinct) == 3
    assert set(patchify.calls) == set(distinct)
    assert batch.image_grid_hws is not None
    assert batch.pixel_values is not None
    assert batch.image_index is not None
    assert len(batch.image_grid_hws) == 3
    assert len(batch.pixel_values) == batch.image_grid_hws.prod(-1).sum()
    assert len(batch.image_index) == 1 + 2  # as often as their prompts are laid


def test_images_follow_the_order_of_the_prompt(processor: KimiVLProcessor, groups: Groups) -> None:
    patchify = Patchifier(processor)
    batch = pack(groups[2][:1], patchify)
    assert patchify.calls == [PROBLEMS[2].images[1], PROBLEMS[2].images[0]]
    assert batch.image_grid_hws is not None
    assert batch.image_grid_hws.tolist() == [[8, 2], [2, 2]]


def test_a_pack_without_images_has_no_pixels(processor: KimiVLProcessor, groups: Groups) -> None:
    patchify = Patchifier(processor)
    batch = pack(groups[1][::-1], patchify)
    assert patchify.calls == []
    assert batch.pixel_values is batch.image_grid_hws is batch.image_index is None


def test_a_pack_has_its_documented_types_and_a_document_for_each_prompt_and_response(
    processor: KimiVLProcessor, groups: Groups
) -> None:
    members = every_member(groups)
    batch = pack(members, Patchifier(processor))
    assert len(batch.documents) == len(groups) + len(members)
    assert sum(document.length for document in batch.documents) == batch.input_ids_T.numel()
    for integers in (batch.input_ids_T, batch.target_index_R, batch.target_id_R, batch.sequence_R):
        assert integers.dtype == torch.int64
    for floats in (batch.advantage_S, batch.engine_logprob_R, batch.pixel_values):
        assert floats is not None
        assert floats.dtype == torch.float32


@pytest.mark.parametrize("cap", [1, 20, 33, 64, 1000])
def test_packs_keep_the_cap_and_lose_nothing(cap: int) -> None:
    rng = random.Random(cap)
    groups = [
        make_group(PROBLEMS[1], [1] * rng.randint(1, 20), [rng.randint(1, 30) for _ in range(4)])
        for _ in range(12)
    ]
    packs = split_packs(every_member(groups), cap)
    flat = [member for one in packs for member in one]
    assert flat == every_member(groups)
    for one in packs:
        assert one
        assert _cost(one) <= cap or len(one) == 1
    # A pack is closed only because the next sequence does not fit.
    for one, following in pairwise(packs):
        assert _cost([*one, following[0]]) > cap


def _cost(members: Sequence[TokenSequence]) -> int:
    prompts = {one.prompt_token_ids for one in members}
    return sum(map(len, prompts)) + sum(len(one.response_token_ids) for one in members)


def test_minibatches_are_even_ordered_and_never_empty() -> None:
    groups = [make_group(PROBLEMS[1], [1], [1]) for _ in range(40)]
    for held in range(1, 41):
        for count in range(1, 45):
            parts = split_minibatches(groups[:held], count)
            assert [g for part in parts for g in part] == groups[:held]
            assert len(parts) == min(count, held)
            sizes = [len(part) for part in parts]
            assert min(sizes) >= 1
            assert max(sizes) - min(sizes) <= 1


def test_tokens_of_older_weights_are_marked(groups: Groups, processor: KimiVLProcessor) -> None:
    length = len(groups[0][0].response_token_ids)
    aged = replace(groups[0][0], segments=(Segment(0, 1, 3), Segment(1, length, 4)))
    marked = pack([aged], Patchifier(processor), 4).stale_R
    assert marked.tolist() == [True] + [False] * (length - 1)
