"""The real engine on the tiny checkpoint."""

from __future__ import annotations

import asyncio
import io
import os
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from kvl.configs.rollout import EngineConfig
from kvl.kimi_vl_model.checkpoint import load_model, published_tensors
from kvl.kimi_vl_model.logprobs import token_logprobs
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.kimi_vl_model.tokenization import MEDIA_PAD, banned_ids, stop_ids
from kvl.kimi_vl_model.tuning.adapters import changing_tensors, merged_state
from kvl.kimi_vl_model.tuning.freezing import freeze
from kvl.problems.prompt import prompt_parts
from kvl.problems.synthetic.texts import written_texts
from kvl.problems.types import AnswerType, ImageSource, Problem
from kvl.rollouts.fleet import Fleet, WorkerError
from kvl.rollouts.types import Rollout, RolloutRequest, SamplingSettings, StopReason
from kvl.rollouts.weights.weight_buckets import FILE_PREFIX, SHARED_MEMORY, weight_buckets
from PIL import Image
from shared_engine import REPETITION_STOP, SharedEngine

# As the config demands by default: engine and learner in fp32.
TOLERANCE = 2e-3
MAX_MODEL_LEN = 512
# At temperature 1 the tiny checkpoint is never certain of anything; nearly cold it is.
COLD = 0.01


def png(seed: int, width: int, height: int) -> ImageSource:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return ImageSource(data=file.getvalue())


def problem(name: str, *images: ImageSource) -> Problem:
    shown = " and ".join(f"<image{i + 1}>" for i in range(len(images)))
    return Problem(name, f"How many dots? {shown}", images, "1", AnswerType.NUMBER)


PROBLEMS = [
    problem("text"),
    problem("one", png(1, 84, 56)),
    problem("three", png(2, 56, 56), png(3, 30, 140), png(4, 112, 70)),
    problem("same-twice", png(5, 56, 84), png(5, 56, 84)),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny", written_texts())


@pytest.fixture(scope="module")
def fleet(checkpoint: Path, shared_engine: SharedEngine) -> Fleet:
    engine = EngineConfig(dtype="float32", max_model_len=MAX_MODEL_LEN, max_num_seqs=64)
    return shared_engine.serve(checkpoint, engine)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> KimiVLForConditionalGeneration:
    return load_model(checkpoint, torch.float32).eval()


@pytest.fixture(scope="module")
def processor(checkpoint: Path) -> KimiVLProcessor:
    return KimiVLProcessor.from_pretrained(checkpoint)


@torch.no_grad()
def learner_logprobs(
    model: KimiVLForConditionalGeneration,
    processor: KimiVLProcessor,
    of: Problem,
    rollout: Rollout,
    temperature: float,
) -> torch.Tensor:
    ids = torch.tensor([rollout.prompt_token_ids + rollout.response_token_ids])
    images = [part.open() for part in prompt_parts(of) if isinstance(part, ImageSource)]
    patches = processor.image_processor.preprocess(images) if images else {}
    hidden = model.hidden_states(ids, torch.arange(ids.shape[1])[None], **patches)[0]
    start = len(rollout.prompt_token_ids)
    logprobs, _entropy = token_logprobs(
        hidden[start - 1 : -1],
        model.language_model.lm_head.weight,
        ids[0, start:],
        banned_ids=torch.tensor(banned_ids(processor.tokenizer)),
        temperature=temperature,
    )
    return logprobs


def largest_difference(
    model: KimiVLForConditionalGeneration,
    processor: KimiVLProcessor,
    rollouts: list[Rollout],
    temperature: float,
) -> float:
    by_id = {p.id: p for p in PROBLEMS}
    return max(
        (
            learner_logprobs(model, processor, by_id[r.problem_id], r, temperature)
            - torch.tensor(r.logprobs)
        )
        .abs()
        .max()
        .item()
        for r in rollouts
    )


def named_tensors(model: KimiVLForConditionalGeneration):
    """Those that can change; of a model of which nothing is frozen all."""
    return published_tensors(merged_state(model, changing_tensors(model)))


def change(model: KimiVLForConditionalGeneration, seed: int) -> None:
    """Move every weight that trains, among them experts and vision tower unless frozen."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def test_a_response_prefix_is_the_end_of_the_prompt(
    fleet: Fleet, processor: KimiVLProcessor
) -> None:
    prefix = "◁think▷\n\n◁/think▷"
    plain = SamplingSettings(1, max_response_tokens=4, seed=1)
    bare, _ = fleet.generate(PROBLEMS, plain)
    begun, failures = fleet.generate(PROBLEMS, replace(plain, response_prefix=prefix))
    assert failures == []
    for one, other in zip(bare, begun, strict=True):
        ids = tuple(processor.chat.text(prefix))
        assert other.prompt_token_ids == one.prompt_token_ids + ids
        assert len(other.response_token_ids) == len(other.logprobs) <= 4


def test_samples_come_in_order_with_expanded_prompts(
    fleet: Fleet, processor: KimiVLProcessor
) -> None:
    rollouts, failures = fleet.generate(
        PROBLEMS, SamplingSettings(3, max_response_tokens=8, seed=1)
    )
    assert failures == []
    assert [(r.problem_id, r.sample) for r in rollouts] == [
        (p.id, sample) for p in PROBLEMS for sample in range(3)
    ]
    pad = processor.tokenizer.convert_tokens_to_ids(MEDIA_PAD)
    tokens = {r.problem_id: r.prompt_token_ids.count(pad) for r in rollouts}
    assert tokens == {"text": 0, "one": 6, "three": 4 + 10 + 12, "same-twice": 6 + 6}
    assert len({r.response_token_ids for r in rollouts if r.problem_id == "one"}) == 3


def test_the_same_seed_gives_the_same_tokens(fleet: Fleet) -> None:
    settings = SamplingSettings(2, max_response_tokens=8, seed=7)
    first, _ = fleet.generate(PROBLEMS, settings)
    # In another order, so in another batch position.
    second, _ = fleet.generate(PROBLEMS[::-1], settings)
    assert {(r.problem_id, r.sample): r.response_token_ids for r in first} == {
        (r.problem_id, r.sample): r.response_token_ids for r in second
    }


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_logprobs_are_the_learners(
    fleet: Fleet,
    model: KimiVLForConditionalGeneration,
    processor: KimiVLProcessor,
    temperature: float,
) -> None:
    rollouts, _ = fleet.generate(
        PROBLEMS, SamplingSettings(2, temperature, max_response_tokens=24, seed=3)
    )
    assert largest_difference(model, processor, rollouts, temperature) < TOLERANCE


def test_greedy_takes_the_likeliest_allowed_token(
    fleet: Fleet, model: KimiVLForConditionalGeneration, processor: KimiVLProcessor
) -> None:
    rollouts, _ = fleet.generate(PROBLEMS, SamplingSettings(1, 0.0, max_response_tokens=4))
    assert largest_difference(model, processor, rollouts, 1.0) < TOLERANCE
    again, _ = fleet.generate(PROBLEMS, SamplingSettings(1, 0.0, max_response_tokens=4))
    assert [r.response_token_ids for r in rollouts] == [r.response_token_ids for r in again]


def test_an_unfinished_response_goes_on_token_by_token(
    fleet: Fleet, model: KimiVLForConditionalGeneration, processor: KimiVLProcessor
) -> None:
    """In three pieces it is what it would have been at once, and so are its log-probs."""
    whole, _ = fleet.generate(PROBLEMS, SamplingSettings(1, 0.0, max_response_tokens=11))
    pieces = SamplingSettings(1, 0.0, max_response_tokens=4, max_total_tokens=11)
    grown, _ = fleet.generate(PROBLEMS, pieces)
    while cut := [r for r in grown if r.stop_reason is StopReason.LENGTH and len(r.logprobs) < 11]:
        by_id = {p.id: p for p in PROBLEMS}
        longer, failures = fleet.generate([], pieces, [(by_id[r.problem_id], (r,)) for r in cut])
        assert failures == []
        assert all(len(r.response_token_ids) > 4 for r in longer)
        grown = [next((n for n in longer if n.problem_id == r.problem_id), r) for r in grown]
    assert [r.response_token_ids for r in grown] == [r.response_token_ids for r in whole]
    assert [r.prompt_token_ids for r in grown] == [r.prompt_token_ids for r in whole]
    assert largest_difference(model, processor, grown, 1.0) < TOLERANCE
    for rollout in grown:
        bounds = [(segment.start, segment.stop) for segment in rollout.segments]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == len(rollout.response_token_ids)
        assert all(one[1] == two[0] for one, two in pairwise(bounds))


def test_a_long_run_of_certain_tokens_ends_its_own_response_only(
    fleet: Fleet, model: KimiVLForConditionalGeneration, processor: KimiVLProcessor
) -> None:
    """At the token that makes the run long enough, also in a response that comes in pieces."""
    whole = SamplingSettings(4, COLD, max_response_tokens=128, seed=5)
    rollouts, failures = fleet.generate(PROBLEMS, whole)
    pieces = replace(whole, max_response_tokens=20, max_total_tokens=128)
    grown, _ = fleet.generate(PROBLEMS, pieces)
    while cut := [r for r in grown if r.stop_reason is StopReason.LENGTH and len(r.logprobs) < 128]:
        by_id = {p.id: p for p in PROBLEMS}
        longer, _ = fleet.generate([], pieces, [(by_id[r.problem_id], (r,)) for r in cut])
        grown = [r for r in grown if r not in cut] + longer
    assert failures == []
    for some in (rollouts, grown):
        assert {r.stop_reason for r in some} == {StopReason.REPETITION, StopReason.LENGTH}
        for r in some:
            certain = np.array(r.logprobs) > np.log(0.99)
            runs = np.convolve(certain, np.ones(REPETITION_STOP.tokens), "valid")
            ends = np.flatnonzero(runs == REPETITION_STOP.tokens) + REPETITION_STOP.tokens
            assert ends.tolist() == (
                [len(r.logprobs)] if r.stop_reason is StopReason.REPETITION else []
            )
            assert r.text == processor.tokenizer.decode(r.response_token_ids)
    assert largest_difference(model, processor, rollouts, COLD) < TOLERANCE


def test_banned_ids_are_never_sampled_and_stop_ids_end(
    fleet: Fleet, processor: KimiVLProcessor
) -> None:
    # So hot that all 770 allowed ids are about equally likely.
    rollouts, failures = fleet.generate(
        PROBLEMS, SamplingSettings(16, 2.0, max_response_tokens=100, seed=2)
    )
    assert failures == []
    tokenizer = processor.tokenizer
    stops = set(stop_ids(tokenizer))
    sampled = {token for r in rollouts for token in r.response_token_ids}
    assert not sampled & set(banned_ids(tokenizer))
    assert len(sampled) > 700
    stopped = [r for r in rollouts if r.stop_reason is StopReason.STOP]
    assert {r.response_token_ids[-1] for r in stopped} == stops
    for r in rollouts:
        assert not set(r.response_token_ids[:-1]) & stops
        if r.stop_reason is StopReason.LENGTH:
            assert len(r.response_token_ids) == 100
            assert r.response_token_ids[-1] not in stops
        else:
            assert r.text == tokenizer.decode(r.response_token_ids[:-1])
    # The ban is inside the distribution: it is uniform over 770 ids, not over all 1024.
    assert np.mean([p for r in rollouts for p in r.logprobs]) == pytest.approx(
        -np.log(770), abs=0.02
    )


def test_impossible_settings_are_an_error_not_failures(fleet: Fleet) -> None:
    with pytest.raises(WorkerError, match="temperature"):
        fleet.generate(PROBLEMS, SamplingSettings(1, 50.0))


def test_bad_problems_fail_alone(fleet: Fleet) -> None:
    broken = problem("broken", ImageSource(data=png(1, 84, 56).read()[:60]))
    missing = problem("missing", ImageSource(path=Path("/nowhere/x.png")))
    long = problem("long", png(1, 28 * 40, 28 * 13))
    flat = problem("flat", png(1, 28 * 300, 14))
    rollouts, failures = fleet.generate(
        [broken, PROBLEMS[1], missing, long, flat], SamplingSettings(2, max_response_tokens=4)
    )
    assert [r.problem_id for r in rollouts] == ["one", "one"]
    reasons = {failure.problem_id: failure.reason for failure in failures}
    assert set(reasons) == {"broken", "missing", "long", "flat"}
    assert "cannot be decoded" in reasons["broken"]
    assert "/nowhere/x.png" in reasons["missing"]
    assert "max_model_len 512" in reasons["long"]
    assert "patches" in reasons["flat"]


def test_new_weights_are_used_and_marked(
    fleet: Fleet, model: KimiVLForConditionalGeneration, processor: KimiVLProcessor
) -> None:
    settings = SamplingSettings(2, max_response_tokens=16, seed=3)
    old, _ = fleet.generate(PROBLEMS, settings)
    for version in (1, 2):
        change(model, version)
        # Small buckets, so that layers arrive in pieces.
        fleet.sync_weights(weight_buckets(named_tensors(model), 2**18), version)
        new, _ = fleet.generate(PROBLEMS, settings)
        assert largest_difference(model, processor, new, 1.0) < TOLERANCE
        assert {r.weight_versions for r in new} == {(version, version)}
        assert [r.response_token_ids for r in new] != [r.response_token_ids for r in old]
        old = new
    assert fleet.weight_versions() == [2]
    assert not list(SHARED_MEMORY.glob(f"{FILE_PREFIX}{os.getpid()}-*"))


def test_modules_that_an_update_leaves_out_keep_their_weights(
    fleet: Fleet, model: KimiVLForConditionalGeneration, processor: KimiVLProcessor
) -> None:
    freeze(model, ("vision_tower", "projector", "router", "embeddings", "experts"))
    change(model, 3)
    fleet.sync_weights(weight_buckets(named_tensors(model), 2**18), 3)
    rollouts, _ = fleet.generate(PROBLEMS, SamplingSettings(2, max_response_tokens=16, seed=3))
    assert largest_difference(model, processor, rollouts, 1.0) < TOLERANCE


def test_what_is_asked_during_an_update_is_computed_by_the_new_weights(
    fleet: Fleet, model: KimiVLForConditionalGeneration, processor: KimiVLProcessor
) -> None:
    """Also what waited in the engine before: neither finds a prefix of the old weights."""
    longer = [replace(p, id=f"{p.id}-long", question=p.question * 12) for p in PROBLEMS[:2]]
    by_id = {p.id: p for p in longer}

    def stand_still(worker: Any) -> None:
        """The engine takes requests and does not begin them, until an update is finished."""
        engine = worker._engine
        pause = engine.pause_generation(mode="keep", clear_cache=False)
        asyncio.run_coroutine_threadsafe(pause, engine.output_handler.get_loop()).result()

    settings = SamplingSettings(2, max_response_tokens=8, seed=6)
    fleet.generate(longer, settings)  # their prefixes are cached now
    requests = [RolloutRequest(p.id, prompt_parts(p)) for p in longer]
    worker: Any = fleet.workers[0]
    ray.get(worker.__ray_call__.remote(stand_still))
    before = worker.sample.remote(requests, settings)
    time.sleep(1.0)

    change(model, 5)
    fleet.begin_update()
    during = worker.sample.remote(requests, settings)
    for update in weight_buckets(named_tensors(model)):
        fleet.apply_update(update)
    fleet.finish_update(5)
    for asked in (before, during):
        rollouts = [r for batch in ray.get(asked) for r in batch]
        assert {r.weight_versions for r in rollouts} == {(5, 5)}
        for r in rollouts:
            expected = learner_logprobs(model, processor, by_id[r.problem_id], r, 1.0)
            assert (expected - torch.tensor(r.logprobs)).abs().max() < TOLERANCE


def test_running_requests_go_on_under_new_weights(
    fleet: Fleet, model: KimiVLForConditionalGeneration
) -> None:
    requests = [RolloutRequest(p.id, prompt_parts(p)) for p in PROBLEMS]
    settings = SamplingSettings(8, max_response_tokens=400, seed=5)
    running = fleet.workers[0].sample.remote(requests, settings)
    time.sleep(1.0)
    fleet.sync_weights(weight_buckets(named_tensors(model)), 6)
    rollouts = [r for batch in ray.get(running) for r in batch]
    spanning = [r for r in rollouts if r.weight_versions[0] < r.weight_versions[1] == 6]
    assert spanning, {r.weight_versions for r in rollouts}
    for r in rollouts:
        assert r.segments[0].start == 0
        assert r.segments[-1].stop == len(r.response_token_ids)
        assert all(a.stop == b.start for a, b in zip(r.segments, r.segments[1:], strict=False))
