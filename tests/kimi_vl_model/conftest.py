"""A tiny checkpoint in the published layout, with weights that hide no mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kvl.kimi_vl_model.checkpoint import (
    SINGLE_FILE,
    load_model,
    persistent_state,
    published_tensors,
)
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from safetensors.torch import save_file

TEXTS = [
    "The quick brown fox isn't 12,345 years old; it's counting 7 red circles and 3 blue ones.\n",
    "def area(width, height):\n    return width * height  # 3.5 cm²\n\n",
    "图中有多少个红色的圆形?答案是七个。图中有多少个蓝色的三角形?\n",
    "Ответ: семь. ÉTÉ naïve façade — “quoted” 😀😀 x=1; y=[2,3];\t\t  done   \n",
] * 20


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@torch.no_grad()
def enliven(model: torch.nn.Module, seed: int) -> None:
    """Weights of unit gain, random biases and norms: no path is too faint for a tolerance."""
    generator = torch.Generator().manual_seed(seed)

    def noise(tensor: torch.Tensor, scale: float) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator) * scale

    for name, tensor in model.state_dict().items():
        if name.endswith("e_score_correction_bias"):
            tensor.copy_(noise(tensor, 0.3))
        elif tensor.ndim == 1:
            tensor.copy_(noise(tensor, 0.1) + (1.0 if "norm" in name and "bias" not in name else 0))
        elif "embed_tokens" in name or "pos_emb" in name:
            tensor.copy_(noise(tensor, 1.0))
        else:
            fan_in = tensor.shape[1:].numel() if "patch_embed" in name else tensor.shape[-1]
            tensor.copy_(noise(tensor, fan_in**-0.5))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; read only. Like the published one it holds stale buffers and foreign files."""
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny", seed=0, texts=TEXTS)
    model = load_model(folder)
    enliven(model, seed=1)
    tensors = {name: t.contiguous() for name, t in published_tensors(persistent_state(model))}
    for layer in range(model.config.text_config.num_hidden_layers):
        name = f"language_model.model.layers.{layer}.self_attn.rotary_emb.inv_freq"
        tensors[name] = torch.arange(32, dtype=torch.float32) + layer
    save_file(tensors, folder / SINGLE_FILE, metadata={"format": "pt"})
    (folder / "modeling_kimi_vl.py").write_text("# remote code\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"odd": "spacing"}))
    return folder


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> KimiVLForConditionalGeneration:
    """Read only."""
    return load_model(checkpoint)


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """`measured(what, figure)`: a line of benchmarks/results/model_parity.json."""

    def record(what: str, figure: object) -> None:
        record_property(what, float(figure))  # pyright: ignore[reportArgumentType]

    return record


@pytest.fixture(scope="session")
def processor(checkpoint: Path) -> KimiVLProcessor:
    return KimiVLProcessor.from_pretrained(checkpoint)
