"""The published sizes, built on the meta device: names, shapes and counts without the weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from kvl.kimi_vl_model.checkpoint import persistent_state, published_tensors
from kvl.kimi_vl_model.configuration import KimiVLConfig
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration

# The published config.json, as far as model.md §1 gives it.
PUBLISHED = json.loads(Path(__file__).with_name("published_config.json").read_text())
TEXT, VISION = PUBLISHED["text_config"], PUBLISHED["vision_config"]
LAYER = "language_model.model.layers."
BLOCK = "vision_tower.encoder.blocks."
SHAPES = {
    r"language_model\.(model\.embed_tokens|lm_head)\.weight": ([163840, 2048], 2),
    r"language_model\.model\.norm\.weight": ([2048], 1),
    LAYER + r"\d+\.(input|post_attention)_layernorm\.weight": ([2048], 54),
    LAYER + r"\d+\.self_attn\.q_proj\.weight": ([3072, 2048], 27),
    LAYER + r"\d+\.self_attn\.kv_a_proj_with_mqa\.weight": ([576, 2048], 27),
    LAYER + r"\d+\.self_attn\.kv_a_layernorm\.weight": ([512], 27),
    LAYER + r"\d+\.self_attn\.kv_b_proj\.weight": ([4096, 512], 27),
    LAYER + r"\d+\.self_attn\.o_proj\.weight": ([2048, 2048], 27),
    LAYER + r"0\.mlp\.(gate|up)_proj\.weight": ([11264, 2048], 2),
    LAYER + r"0\.mlp\.down_proj\.weight": ([2048, 11264], 1),
    LAYER + r"\d+\.mlp\.gate\.weight": ([64, 2048], 26),
    LAYER + r"\d+\.mlp\.gate\.e_score_correction_bias": ([64], 26),
    LAYER + r"\d+\.mlp\.experts\.\d+\.(gate|up)_proj\.weight": ([1408, 2048], 26 * 64 * 2),
    LAYER + r"\d+\.mlp\.experts\.\d+\.down_proj\.weight": ([2048, 1408], 26 * 64),
    LAYER + r"\d+\.mlp\.shared_experts\.(gate|up)_proj\.weight": ([2816, 2048], 52),
    LAYER + r"\d+\.mlp\.shared_experts\.down_proj\.weight": ([2048, 2816], 26),
    r"multi_modal_projector\.pre_norm\.(weight|bias)": ([1152], 2),
    r"multi_modal_projector\.linear_1\.weight": ([4608, 4608], 1),
    r"multi_modal_projector\.linear_1\.bias": ([4608], 1),
    r"multi_modal_projector\.linear_2\.weight": ([2048, 4608], 1),
    r"multi_modal_projector\.linear_2\.bias": ([2048], 1),
    r"vision_tower\.patch_embed\.proj\.weight": ([1152, 3, 14, 14], 1),
    r"vision_tower\.patch_embed\.proj\.bias": ([1152], 1),
    r"vision_tower\.patch_embed\.pos_emb\.weight": ([64, 64, 1152], 1),
    BLOCK + r"\d+\.norm[01]\.(weight|bias)": ([1152], 108),
    BLOCK + r"\d+\.wqkv\.weight": ([3456, 1152], 27),
    BLOCK + r"\d+\.wqkv\.bias": ([3456], 27),
    BLOCK + r"\d+\.wo\.weight": ([1152, 1152], 27),
    BLOCK + r"\d+\.(wo|mlp\.fc1)\.bias": ([1152], 54),
    BLOCK + r"\d+\.mlp\.fc0\.weight": ([4304, 1152], 27),
    BLOCK + r"\d+\.mlp\.fc0\.bias": ([4304], 27),
    BLOCK + r"\d+\.mlp\.fc1\.weight": ([1152, 4304], 27),
    r"vision_tower\.encoder\.final_layernorm\.(weight|bias)": ([1152], 2),
}


@pytest.fixture(scope="module")
def real_model() -> KimiVLForConditionalGeneration:
    config = KimiVLConfig(TEXT, VISION, media_placeholder_token_id=163605)
    with torch.device("meta"):
        return KimiVLForConditionalGeneration(config)


@pytest.fixture(scope="module")
def published(real_model: KimiVLForConditionalGeneration) -> dict[str, torch.Tensor]:
    return dict(published_tensors(persistent_state(real_model)))


def test_every_published_tensor_has_its_shape(published: dict[str, torch.Tensor]) -> None:
    unmatched = set(published)
    for family, (shape, count) in SHAPES.items():
        names = {name for name in published if re.fullmatch(family, name)}
        assert len(names) == count, family
        assert {tuple(published[name].shape) for name in names} == {tuple(shape)}, family
        unmatched -= names
    assert unmatched == set()


def test_tensors_and_parameters_number_as_published(published: dict[str, torch.Tensor]) -> None:
    stale_inv_freq = 27
    assert len(published) + stale_inv_freq == 5679
    # The published count holds the selection biases, and the stale buffers not at all.
    assert sum(tensor.numel() for tensor in published.values()) == 16_407_656_048


def test_parts_number_as_in_the_report(published: dict[str, torch.Tensor]) -> None:
    def count(pattern: str) -> int:
        return sum(t.numel() for name, t in published.items() if re.search(pattern, name))

    assert count(r"\.mlp\.experts\.") / 1e9 == pytest.approx(14.39, abs=0.01)
    assert count(r"^language_model\.") / 1e9 == pytest.approx(15.96, abs=0.01)
    assert count(r"^vision_tower\.") / 1e6 == pytest.approx(416.9, abs=0.1)
    assert count(r"^multi_modal_projector\.") / 1e6 == pytest.approx(30.7, abs=0.1)


def test_config_without_text_defaults_has_no_prediction_layer_and_the_old_rope() -> None:
    config = KimiVLConfig(TEXT, VISION)
    assert config.text_config.num_mtp_layers == 0
    assert (config.text_config.rope_parameters or {})["rope_theta"] == 800000.0
    assert config.media_placeholder_token_id == 163605
    assert config.kv_a_layernorm_eps == 1e-6
    assert config.text_config.pad_token_id == 163839


def test_softmax_scale_and_rope_width_are_those_of_the_paper(
    real_model: KimiVLForConditionalGeneration,
) -> None:
    attention = real_model.language_model.model.layers[3].get_submodule("self_attn")
    assert attention.scaling == pytest.approx(192**-0.5)
    assert real_model.vision_tower.head_dim == 72
