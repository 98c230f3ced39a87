from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from kvl.configs.common import OptimizerConfig, ParameterGroup
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.tuning.freezing import freeze
from kvl.kimi_vl_model.tuning.optimizers import build_optimizer

PART: dict[ParameterGroup, str] = {
    "vision_tower": "vision_tower.",
    "projector": "multi_modal_projector.",
    "router": ".mlp.gate.weight",
    "embeddings": ".embed_tokens.weight",
    "experts": ".mlp.experts.",
}


@pytest.mark.parametrize("group", get_args(ParameterGroup))
def test_a_frozen_group_stays_and_the_rest_trains(checkpoint: Path, group: ParameterGroup) -> None:
    model = load_model(checkpoint)
    freeze(model, [group])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=1e-3, weight_decay=0.1))
    ids = torch.arange(60)[None]
    ids[0, 3:9] = model.config.media_placeholder_token_id
    pixels = torch.randn(24, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    model(
        ids, pixel_values=pixels, image_grid_hws=torch.tensor([[4, 6]]), labels=ids
    ).loss.backward()
    optimizer.step()
    for name, tensor in model.state_dict().items():
        stays = PART[group] in name or name.endswith("e_score_correction_bias")
        assert tensor.equal(before[name]) == stays, name


def test_groups_do_not_overlap_and_can_be_combined(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    freeze(model, get_args(ParameterGroup))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name, _ in model.named_parameters()} - trained == {
        name for name, _ in model.named_parameters() if any(p in name for p in PART.values())
    }
    assert "language_model.lm_head.weight" in trained
    assert "language_model.model.layers.0.mlp.gate_proj.weight" in trained
