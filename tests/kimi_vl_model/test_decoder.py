from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kvl.kimi_vl_model.attention import document_buckets, documents_of, packed_attention
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.configuration import KimiVLConfig
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

Measured = Callable[[str, object], None]


def plain_decoder(
    checkpoint: Path,
    model: KimiVLForConditionalGeneration,
    attention: str = "sdpa",
    experts: str = "grouped_mm",
) -> DeepseekV3ForCausalLM:
    """transformers' own decoder with the weights, dtypes and buffers of the model's."""
    settings = json.loads((checkpoint / "config.json").read_text())["text_config"]
    config = DeepseekV3Config(**settings, num_mtp_layers=0)
    config._attn_implementation = attention
    config._experts_implementation = experts
    plain = DeepseekV3ForCausalLM(config).eval()
    plain.load_state_dict(model.language_model.state_dict(), assign=True)
    return plain


def text_ids(model: KimiVLForConditionalGeneration, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.config.text_config.bos_token_id, shape, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_text_path_equals_plain_deepseek_v3_exactly(
    checkpoint: Path, dtype: torch.dtype, measured: Measured
) -> None:
    model = load_model(checkpoint, dtype)
    ids = text_ids(model, 2, 70)
    expected = plain_decoder(checkpoint, model)(ids, use_cache=False).logits
    assert expected.dtype == dtype
    assert expected.std() > 0.3
    measured("largest logit difference", (model(ids).logits - expected).abs().max())
    assert model(ids).logits.equal(expected)


@torch.no_grad()
def test_text_path_equals_the_eager_decoder(
    checkpoint: Path, model: KimiVLForConditionalGeneration, measured: Measured
) -> None:
    ids = text_ids(model, 2, 70)
    expected = plain_decoder(checkpoint, model, "eager", "eager")(ids, use_cache=False).logits
    measured("largest logit difference", (model(ids).logits - expected).abs().max())
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=0)


def test_text_path_has_the_gradient_of_plain_deepseek_v3(
    checkpoint: Path, model: KimiVLForConditionalGeneration
) -> None:
    plain = plain_decoder(checkpoint, model)
    ids = text_ids(model, 1, 60)
    names = [
        "model.layers.0.self_attn.kv_b_proj.weight",
        "model.layers.1.mlp.gate.weight",
        "model.layers.2.mlp.experts.gate_up_proj",
        "model.embed_tokens.weight",
    ]
    model.zero_grad()
    (loss,) = (model(ids, labels=ids).loss,)
    actual = torch.autograd.grad(loss, [model.language_model.get_parameter(n) for n in names])
    loss = plain(ids, labels=ids, use_cache=False).loss
    expected = torch.autograd.grad(loss, [plain.get_parameter(n) for n in names])
    for name, got, want in zip(names, actual, expected, strict=True):
        assert want.abs().max() > 1e-4, name
        torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-3, msg=name)


def documents(
    model: KimiVLForConditionalGeneration,
) -> list[tuple[torch.Tensor, list[tuple[int, int]]]]:
    """(ids, grids) of documents with very different lengths; some hold images."""
    pad = model.config.media_placeholder_token_id
    made = []
    for seed, (length, grids) in enumerate(
        [(1, []), (90, [(4, 6)]), (2, []), (17, [(2, 2), (2, 4)]), (40, []), (90, []), (3, [])]
    ):
        ids = text_ids(model, length, seed=seed)
        at = 3
        for height, width in grids:
            run = height * width // 4
            ids[at : at + run] = pad
            at += run + 2
        made.append((ids, grids))
    return made


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_packed_documents_equal_separate_ones(
    checkpoint: Path, dtype: torch.dtype, measured: Measured
) -> None:
    model = load_model(checkpoint, dtype)
    made = documents(model)
    grids = [grid for _, own in made for grid in own]
    generator = torch.Generator().manual_seed(9)
    pixels = torch.randn(sum(h * w for h, w in grids), 3, 14, 14, generator=generator)
    packed_ids = torch.cat([ids for ids, _ in made])[None]
    positions = torch.cat([torch.arange(len(ids)) for ids, _ in made])[None]
    together = model(packed_ids, positions, pixels, torch.tensor(grids)).logits[0]
    separate, taken = [], 0
    for ids, own in made:
        if own:
            count = sum(h * w for h, w in own)
            patches, taken = pixels[taken : taken + count], taken + count
            separate.append(model(ids[None], None, patches, torch.tensor(own)).logits[0])
        else:
            separate.append(model(ids[None]).logits[0])
    difference = (together - torch.cat(separate)).float().abs()
    measured("largest logit difference", difference.max())
    if dtype == torch.float32:
        assert difference.max() <= 1e-5
    # In bf16 another shape may round another way, and a router's tie fall the other way.
    assert difference.mean() < 2e-3
    # The positions are what isolates: as one document the same ids give other logits.
    joined = model(packed_ids, None, pixels, torch.tensor(grids)).logits[0]
    assert (joined - together)[-3:].abs().max() > 1e-2


@torch.no_grad()
def test_no_token_of_one_document_reaches_another(model: KimiVLForConditionalGeneration) -> None:
    lengths = [5, 64, 9, 30]
    ids = text_ids(model, 1, sum(lengths))
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    before = model(ids, positions).logits[0]
    ids[0, 5] = (ids[0, 5] + 1) % 256
    moved = (model(ids, positions).logits[0] - before).abs().amax(1)
    assert moved[:5].max() <= 1e-5
    assert moved[5:69].min() > 1e-3
    assert moved[69:].max() <= 1e-5


def test_document_buckets_cover_every_token_once() -> None:
    lengths = [1, 1, 2, 3, 4, 5, 8, 9, 16, 17, 33]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    buckets = document_buckets(documents_of(positions))
    covered = torch.cat([bucket.target_M for bucket in buckets])
    assert covered.sort().values.tolist() == list(range(sum(lengths)))
    for bucket in buckets:
        assert bucket.index_nL.flatten()[bucket.source_M].equal(bucket.target_M)
        own = (bucket.source_M // bucket.index_nL.shape[1]).bincount()
        assert own.max() < 2 * own.min() or own.max() == own.min()


def test_rows_of_a_batch_are_documents_of_their_own() -> None:
    buckets = document_buckets(documents_of(torch.arange(4).expand(3, 4)))
    assert [bucket.index_nL.tolist() for bucket in buckets] == [
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    ]


def test_positions_that_do_not_start_at_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="start at 0"):
        documents_of(torch.tensor([[3, 4, 5]]))


def test_packed_attention_refuses_a_mask() -> None:
    states = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ValueError, match="attention mask"):
        packed_attention(
            torch.nn.Identity(), states, states, states, torch.ones(1, 1, 2, 2), 1.0, buckets=[]
        )


@torch.no_grad()
def test_latent_norm_epsilon_reaches_every_layer_and_matters(
    model: KimiVLForConditionalGeneration,
) -> None:
    def built(eps: float) -> KimiVLForConditionalGeneration:
        config = KimiVLConfig(
            model.config.text_config.to_dict(),
            model.config.vision_config.to_dict(),
            media_placeholder_token_id=model.config.media_placeholder_token_id,
            kv_a_layernorm_eps=eps,
        )
        other = KimiVLForConditionalGeneration(config).eval()
        other.load_state_dict(model.state_dict())
        return other

    published, engine = built(1e-6), built(1e-5)
    for built_model, eps in (published, 1e-6), (engine, 1e-5):
        layers = built_model.language_model.model.layers
        norms = [layer.get_submodule("self_attn.kv_a_layernorm") for layer in layers]
        held = {norm.variance_epsilon for norm in norms}
        assert held == {eps}
    # Small latents, as in the trained model, are where the two values part.
    for built_model in (published, engine):
        for layer in built_model.language_model.model.layers:
            layer.get_parameter("self_attn.kv_a_proj_with_mqa.weight").mul_(0.01)
    ids = text_ids(model, 1, 20)
    assert (published(ids).logits - engine(ids).logits).abs().max() > 1e-3
    assert model.config.kv_a_layernorm_eps == 1e-6


@torch.no_grad()
def test_router_bias_changes_the_choice_but_not_the_gate_weights(
    model: KimiVLForConditionalGeneration,
) -> None:
    moe = model.language_model.model.layers[1].get_submodule("mlp")
    gate, text = moe.get_submodule("gate"), model.config.text_config
    hidden = torch.randn(50, text.hidden_size, generator=torch.Generator().manual_seed(3))
    weight, bias = gate.get_parameter("weight"), gate.get_buffer("e_score_correction_bias")
    scores = (hidden @ weight.T).sigmoid()
    chosen = (scores + bias).topk(text.num_experts_per_tok).indices
    assert (chosen.sort().values != scores.topk(2).indices.sort().values).any()
    weights = scores.gather(1, chosen)
    weights = weights / weights.sum(1, keepdim=True) * text.routed_scaling_factor
    expected = torch.zeros_like(hidden)
    experts = moe.get_submodule("experts")
    gate_up, down = experts.get_parameter("gate_up_proj"), experts.get_parameter("down_proj")
    for token in range(hidden.shape[0]):
        for slot, expert in enumerate(chosen[token].tolist()):
            a, b = (gate_up[expert] @ hidden[token]).chunk(2)
            out = down[expert] @ (torch.nn.functional.silu(a) * b)
            expected[token] += weights[token, slot] * out
    expected += moe.get_submodule("shared_experts")(hidden)
    torch.testing.assert_close(moe(hidden[None])[0], expected, atol=1e-5, rtol=1e-5)


def test_loss_divides_by_the_given_token_count(model: KimiVLForConditionalGeneration) -> None:
    ids = text_ids(model, 1, 12)
    labels = ids.clone()
    labels[:, :7] = model.config.ignore_index
    with torch.no_grad():
        logits = model(ids).logits[0]
        nll = torch.nn.functional.cross_entropy(logits[6:-1], ids[0, 7:], reduction="sum")
        torch.testing.assert_close(model(ids, labels=labels).loss, nll / 5)
        torch.testing.assert_close(model(ids, labels=labels, num_items_in_batch=20).loss, nll / 20)
        labels[:] = model.config.ignore_index
        assert model(ids, labels=labels).loss == 0.0
