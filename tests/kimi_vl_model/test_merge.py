from __future__ import annotations

import pytest
import torch
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration

GRIDS = torch.tensor([[4, 4], [2, 6]])


def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(int(GRIDS.prod(-1).sum()), 3, 14, 14, generator=generator)


def prompt(model: KimiVLForConditionalGeneration, *runs: int) -> list[int]:
    pad = model.config.media_placeholder_token_id
    return [5, *(token for run in runs for token in [6, *[pad] * run, 7]), 8, 9]


@torch.no_grad()
def test_image_rows_take_the_projected_blocks_in_order(
    model: KimiVLForConditionalGeneration,
) -> None:
    ids = torch.tensor([prompt(model, 4, 3)])
    embedded = model.embed(ids, pixels(), GRIDS)[0]
    blocks = model.vision_tower(pixels(), GRIDS)
    projector = model.multi_modal_projector
    normed = torch.nn.functional.layer_norm(
        blocks, blocks.shape[-1:], projector.pre_norm.weight, projector.pre_norm.bias, 1e-5
    )
    inner = projector.linear_1(normed.reshape(7, -1))
    inner = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))  # the erf GELU, not its tanh form
    where = ids[0] == model.config.media_placeholder_token_id
    torch.testing.assert_close(embedded[where], projector.linear_2(inner), atol=1e-5, rtol=1e-5)
    text = model.get_input_embeddings()(ids[0])
    assert embedded[~where].equal(text[~where])


@torch.no_grad()
def test_one_image_shared_by_several_prompts_equals_duplicates(
    model: KimiVLForConditionalGeneration,
) -> None:
    first, second = pixels().split(GRIDS.prod(-1).tolist())
    sequences = [prompt(model, 4), prompt(model, 3), prompt(model, 4, 3), prompt(model, 4)]
    ids = torch.tensor([[token for one in sequences for token in one]])
    positions = torch.cat([torch.arange(len(one)) for one in sequences])[None]
    index = torch.tensor([0, 1, 0, 1, 0])
    shared = model(ids, positions, pixels(), GRIDS, image_index=index).logits
    every = torch.cat([(first, second)[i] for i in index.tolist()])
    duplicated = model(ids, positions, every, GRIDS[index]).logits
    torch.testing.assert_close(shared, duplicated, atol=1e-5, rtol=0)


def test_a_shared_image_collects_the_gradient_of_every_prompt(
    model: KimiVLForConditionalGeneration,
) -> None:
    first = pixels().split(GRIDS.prod(-1).tolist())[0]
    sequence = prompt(model, 4)
    ids = torch.tensor([sequence * 3])
    positions = torch.arange(len(sequence)).repeat(3)[None]
    weight = model.vision_tower.patch_embed.proj.weight
    three = model.hidden_states(
        ids, positions, first, GRIDS[:1], image_index=torch.tensor([0, 0, 0])
    )
    one = model.hidden_states(ids[:, : len(sequence)], None, first, GRIDS[:1])
    (of_three,) = torch.autograd.grad(three[..., 0].sum(), weight)
    (of_one,) = torch.autograd.grad(one[..., 0].sum(), weight)
    assert of_one.abs().max() > 1e-4
    torch.testing.assert_close(of_three, 3 * of_one, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("runs", [(4,), (4, 4), (4, 3, 1), ()])
def test_wrong_image_token_counts_are_refused(
    model: KimiVLForConditionalGeneration, runs: tuple[int, ...]
) -> None:
    ids = torch.tensor([prompt(model, *runs)])
    with pytest.raises(ValueError, match=rf"holds {sum(runs)} image tokens .* make 7"):
        model(ids, None, pixels(), GRIDS)


def test_image_tokens_without_any_image_are_refused(
    model: KimiVLForConditionalGeneration,
) -> None:
    with pytest.raises(ValueError, match="holds 4 image tokens"):
        model(torch.tensor([prompt(model, 4)]))
