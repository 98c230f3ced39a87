"""LoRA: what is adapted, and that adapter, merge and export are the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kvl.configs.common import LoRAConfig
from kvl.kimi_vl_model.checkpoint import export_checkpoint, load_model, persistent_state
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.tuning.adapters import (
    adapter_tensors,
    add_adapters,
    changing_tensors,
    merged_state,
    plain_state,
    save_adapter,
)
from kvl.kimi_vl_model.tuning.freezing import freeze
from peft import PeftModel

LAYER = "language_model.model.layers."
MATRICES = 3 * 4 + 3 + 2 * 3  # attention of three layers, one dense MLP, two shared experts


def excited(checkpoint: Path, routed: bool) -> PeftModel:
    """Adapters whose B is not the zero it starts as."""
    torch.manual_seed(0)
    adapted = add_adapters(
        load_model(checkpoint), LoRAConfig(rank=4, alpha=8, routed_experts=routed)
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    return adapted


def base(adapted: PeftModel) -> KimiVLForConditionalGeneration:
    model = adapted.get_base_model()
    assert isinstance(model, KimiVLForConditionalGeneration)
    return model


@pytest.mark.parametrize("routed", [False, True], ids=["dense", "routed experts too"])
def test_only_adapters_train_and_start_as_no_change(checkpoint: Path, routed: bool) -> None:
    plain, ids = load_model(checkpoint), torch.arange(40)[None]
    model = base(add_adapters(load_model(checkpoint), LoRAConfig(rank=4, routed_experts=routed)))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits, atol=1e-6, rtol=0)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert len(trained) == 2 * (MATRICES + (2 * 2 if routed else 0))
    assert all(name.startswith(LAYER) for name in trained)
    assert any(".mlp.experts." in name for name in trained) == routed
    model.train()
    model(ids, labels=ids).loss.backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trained


@torch.no_grad()
@pytest.mark.parametrize("routed", [False, True], ids=["dense", "routed experts too"])
def test_saved_adapter_and_merged_export_equal_the_adapter_model(
    checkpoint: Path,
    tmp_path: Path,
    routed: bool,
    record_property: Callable[[str, object], None],
) -> None:
    adapted, ids = excited(checkpoint, routed), torch.arange(40)[None]
    expected = base(adapted)(ids).logits
    plain = load_model(checkpoint)
    assert (plain(ids).logits - expected).abs().max() > 1e-2

    save_adapter(adapted, adapter_tensors(adapted), checkpoint, tmp_path / "adapter")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(checkpoint)
    loaded = PeftModel.from_pretrained(plain, str(tmp_path / "adapter"))
    torch.testing.assert_close(base(loaded)(ids).logits, expected, atol=1e-6, rtol=0)

    export_checkpoint(merged_state(base(adapted)), checkpoint, tmp_path / "merged")
    logits = load_model(tmp_path / "merged")(ids).logits
    record_property("largest logit difference", float((logits - expected).abs().max()))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_merged_stream_equals_peft_and_leaves_the_base_alone(checkpoint: Path) -> None:
    adapted, source = excited(checkpoint, routed=True), load_model(checkpoint)
    model = base(adapted)
    merged = {name: tensor.clone() for name, tensor in merged_state(model)}
    base_weights = dict(persistent_state(source))
    for name, tensor in plain_state(model):
        assert tensor.equal(base_weights[name]), name
    changing = changing_tensors(model)
    assert dict(merged_state(model, changing)).keys() == changing

    expected = dict(persistent_state(adapted.merge_and_unload()))  # pyright: ignore[reportCallIssue]
    assert merged.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(merged[name], tensor, atol=1e-6, rtol=0, msg=name)
        moved = not tensor.equal(base_weights[name])
        assert moved == (name in changing), name
    for part in ("self_attn.kv_b_proj", "shared_experts.up_proj", "experts.gate_up_proj"):
        assert any(part in name for name in changing), part


def test_frozen_parts_never_change(checkpoint: Path) -> None:
    """A module counts whole: the router's selection bias goes with its weight."""
    model = load_model(checkpoint)
    assert changing_tensors(model) == dict(persistent_state(model)).keys()
    freeze(model, ["vision_tower", "experts", "router"])
    parts = ("vision_tower.", ".mlp.experts.", ".mlp.gate.")
    left_out = dict(persistent_state(model)).keys() - changing_tensors(model)
    assert left_out == {
        name for name, _ in persistent_state(model) if any(part in name for part in parts)
    }
