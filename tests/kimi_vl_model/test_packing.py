"""A prompt that several responses share passes the network once, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kvl.kimi_vl_model.attention import Document, document_buckets
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.logprobs import token_logprobs
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.packing import (
    PackedSequences,
    PromptedSequence,
    pack_sequences,
)
from kvl.kimi_vl_model.routing import NO_ROUTE

GRIDS = {"square": (4, 4), "wide": (2, 6), "tall": (8, 2)}
EXPERTS, TOP_K, LAYERS = 8, 2, 2


def group(
    seed: int, text: int, lengths: tuple[int, ...], images: tuple[str, ...], pad: int, routed: bool
) -> list[PromptedSequence]:
    """Responses of these lengths to one prompt, whose routes they have in common."""
    rng = np.random.default_rng(seed)
    runs = [token for key in images for token in [7] + [pad] * (np.prod(GRIDS[key]) // 4)]
    prompt = (*rng.integers(0, 256, text).tolist(), *runs, 9)
    told = rng.random((len(prompt), LAYERS, EXPERTS)).argsort()[..., :TOP_K].astype(np.uint8)
    members = []
    for length in lengths:
        response = tuple(rng.integers(0, 256, length).tolist())
        own = rng.random((length, LAYERS, EXPERTS)).argsort()[..., :TOP_K].astype(np.uint8)
        # The last token is routed by nobody: an engine stops before it.
        routes = np.concatenate([told, own])[:-1] if routed else None
        members.append(PromptedSequence(prompt, response, images, routes))
    return members


def sequences(pad: int, routed: bool = False) -> list[PromptedSequence]:
    first = group(0, 30, (5, 40, 1, 17), ("square", "wide"), pad, routed)
    second = group(1, 3, (9, 8), (), pad, routed)
    alone = group(2, 6, (12,), ("tall",), pad, routed)
    again = group(3, 4, (7, 3), ("tall", "square", "tall"), pad, routed)
    # Members of a group need not be neighbours.
    return [first[0], second[0], *first[1:3], *alone, second[1], *again, first[3]]


def logprobs(model: KimiVLForConditionalGeneration, packed: PackedSequences) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    pictures = {
        key: torch.randn(h * w, 3, 14, 14, generator=generator) for key, (h, w) in GRIDS.items()
    }
    images: dict[str, Any] = {}
    if packed.images:
        images = {
            "pixel_values": torch.cat([pictures[str(key)] for key in packed.images]),
            "image_grid_hws": torch.tensor([GRIDS[str(key)] for key in packed.images]),
            "image_index": torch.tensor(packed.image_index),
        }
    hidden = model.hidden_states(
        packed.input_ids_T[None], routes=packed.routes_TLk, documents=packed.documents, **images
    )[0]
    head = model.language_model.lm_head.weight
    return token_logprobs(hidden[packed.target_index_R], head, packed.target_id_R)[0]


@pytest.mark.parametrize("routed", [False, True], ids=["free", "replayed"])
@pytest.mark.parametrize("recompute", [False, True], ids=["plain", "recomputed"])
def test_a_shared_prompt_changes_neither_logprobs_nor_gradients(
    checkpoint: Path, routed: bool, recompute: bool
) -> None:
    results = []
    for share in (False, True):
        model = load_model(checkpoint).train()
        if recompute:
            model.gradient_checkpointing_enable()
        made = sequences(model.config.media_placeholder_token_id, routed)
        packed = pack_sequences(made, share)
        prompts = [one.prompt for one in made]
        responses = sum(len(one.response) for one in made)
        laid = sum(map(len, set(prompts) if share else prompts))
        assert packed.input_ids_T.numel() == laid + responses
        logprob_R = logprobs(model, packed)
        weight_R = torch.linspace(-1, 1, len(logprob_R))
        (logprob_R * weight_R).mean().backward()
        results.append((logprob_R.detach(), packed, dict(model.named_parameters())))
    (alone, apart, plain), (shared, packed, parameters) = results
    assert packed.sequence_R.equal(apart.sequence_R)
    assert packed.target_id_R.equal(apart.target_id_R)
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=0)
    for name, parameter in parameters.items():
        expected, found = plain[name].grad, parameter.grad
        assert (found is None) == (expected is None), name
        if expected is not None and found is not None:
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(found, expected, atol=1e-5 * scale, rtol=0, msg=name)


@torch.no_grad()
def test_responses_to_one_prompt_do_not_see_each_other(
    model: KimiVLForConditionalGeneration,
) -> None:
    made = group(0, 20, (10, 10, 10), (), 0, False)
    before = logprobs(model, pack_sequences(made))
    changed = PromptedSequence(made[0].prompt, (3,) * 10)
    after = logprobs(model, pack_sequences([changed, *made[1:]]))
    assert after[10:].equal(before[10:])
    assert (after[:10] - before[:10]).abs().max() > 1e-2


def test_images_of_a_shared_prompt_are_listed_once() -> None:
    packed = pack_sequences(sequences(1000))
    assert packed.images == ("square", "wide", "tall")
    # Four prompts, the second without images, the last with a picture shown twice.
    assert packed.image_index == (0, 1, 2, 2, 0, 2)


def test_prompts_that_were_routed_apart_are_not_shared() -> None:
    one, other = group(0, 20, (4, 4), (), 0, True)
    assert one.routes is not None
    assert other.routes is not None
    packed = pack_sequences([one, other])
    assert len(packed.documents) == 3
    assert packed.routes_TLk is not None
    assert packed.routes_TLk[:21].equal(torch.from_numpy(one.routes[:21]))
    assert packed.routes_TLk[21:24].equal(torch.from_numpy(one.routes[21:]))
    assert (packed.routes_TLk[24] == NO_ROUTE).all()  # the last token of `one`
    moved = other.routes.copy()
    moved[3] = (moved[3] + 1) % EXPERTS
    other = PromptedSequence(other.prompt, other.response, (), moved)
    assert [d.prefix for d in pack_sequences([one, other]).documents] == [(0, 0), (0, 0)]


def test_an_empty_response_adds_no_document_and_an_empty_prompt_is_refused() -> None:
    packed = pack_sequences([PromptedSequence((1, 2), ()), PromptedSequence((1, 2), (3,))])
    assert packed.documents == (Document(0, 2), Document(2, 1, (0, 2)))
    assert packed.sequence_R.tolist() == [1]
    assert packed.position_ids_T.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="needs a prompt"):
        PromptedSequence((), (1,))


@pytest.mark.parametrize(
    "documents",
    [
        [Document(1, 2)],
        [Document(0, 2), Document(3, 1)],
        [Document(0, 2), Document(1, 4)],
        [Document(0, 0)],
        [Document(0, 2), Document(2, 2, (1, 3))],
    ],
)
def test_documents_that_do_not_cover_the_row_are_refused(documents: list[Document]) -> None:
    with pytest.raises(ValueError, match=r"begin at token|must lie before"):
        document_buckets(documents)
