"""LoRA: what is adapted, and that adapter, merge and export are the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kvl.configs.sft import LoRAConfig
from kvl.kimi_vl_model.checkpoint import export_checkpoint, load_model, persistent_state
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.sft.adapters import add_adapters, merge_adapters, save_adapter
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

    save_adapter(adapted, checkpoint, tmp_path / "adapter")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(checkpoint)
    loaded = PeftModel.from_pretrained(plain, str(tmp_path / "adapter"))
    torch.testing.assert_close(base(loaded)(ids).logits, expected, atol=1e-6, rtol=0)

    merged = merge_adapters(adapted)
    export_checkpoint(persistent_state(merged), checkpoint, tmp_path / "merged")
    logits = load_model(tmp_path / "merged")(ids).logits
    record_property("largest logit difference", float((logits - expected).abs().max()))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
