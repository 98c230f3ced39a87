"""`kvl-sft inspect`: what a checkpoint folder holds, without loading it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from ..configs.errors import CheckpointError
from ..kimi_vl_model.checkpoint import (
    empty_model,
    load_config,
    persistent_state,
    published_tensors,
)
from ..kimi_vl_model.configuration import KimiVLConfig
from ..kimi_vl_model.files.stored_tensors import stored_tensors
from ..kimi_vl_model.image_processing import KimiVLImageProcessor
from ..kimi_vl_model.soundness import checkpoint_problems
from ..kimi_vl_model.tokenization import (
    BOS,
    EOS,
    IM_END,
    MEDIA_PAD,
    PAD,
    load_tokenizer,
    stop_ids,
    token_id,
)

PROBLEMS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Inspection:
    """lines: what to show; problems: why the folder cannot be trained or served as it is."""

    lines: tuple[str, ...]
    problems: tuple[str, ...]


def inspect(folder: Path) -> Inspection:
    """Sizes come from config.json on the meta device, the rest from headers and small files.

    Raises CheckpointError if config.json itself is missing or foreign.
    """
    config = load_config(folder)
    model = empty_model(config)
    lines = [*_architecture(config), *_parameters(config, model)]
    for part in (_tensors, _tokenizer, _images):
        with suppress(CheckpointError):  # what is wrong is among the problems
            lines.append(part(folder))
    return Inspection(tuple(lines), tuple(checkpoint_problems(folder, config, model)))


def _architecture(config: KimiVLConfig) -> list[str]:
    text, vision = config.text_config, config.vision_config
    return [
        f"decoder     {text.num_hidden_layers} layers ({text.first_k_dense_replace} dense), "
        f"hidden {text.hidden_size}, {text.num_attention_heads} heads, latent {text.kv_lora_rank}",
        f"experts     {text.n_routed_experts} routed, {text.num_experts_per_tok} per token, "
        f"{text.n_shared_experts} shared, width {text.moe_intermediate_size}",
        f"vision      {vision.num_hidden_layers} layers, hidden {vision.hidden_size}, "
        f"{vision.num_attention_heads} heads, patches of {vision.patch_size} px",
        f"epsilon     kv_a_layernorm {config.kv_a_layernorm_eps:g}, others {text.rms_norm_eps:g}",
    ]


def _parameters(config: KimiVLConfig, model: torch.nn.Module) -> list[str]:
    total = decoder = experts = 0
    text = config.text_config
    idle = text.n_routed_experts - (text.num_experts_per_tok or 0)
    for name, tensor in published_tensors(persistent_state(model)):
        total += tensor.numel()
        decoder += tensor.numel() * name.startswith("language_model.")
        experts += tensor.numel() * (".experts." in name)
    activated = decoder - experts * idle // text.n_routed_experts
    return [
        f"parameters  {total:,}",
        f"activated   {activated:,} ({activated / 1e9:.3f} B) for a text token",
    ]


def _tensors(folder: Path) -> str:
    stored, _problems = stored_tensors(folder)
    dtypes = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in stored.values())
    size = sum(file.stat().st_size for file in {tensor.file for tensor in stored.values()})
    counted = ", ".join(f"{count} {dtype}" for dtype, count in dtypes.most_common())
    return f"tensors     {len(stored):,} in files of {size / 1e9:.2f} GB: {counted}"


def _tokenizer(folder: Path) -> str:
    tokenizer = load_tokenizer(folder)
    shown = (BOS, EOS, IM_END, MEDIA_PAD, PAD)
    ids = ", ".join(f"{token} {token_id(tokenizer, token)}" for token in shown)
    stops = " and ".join(map(str, stop_ids(tokenizer)))
    return f"tokenizer   {len(tokenizer):,} ids: {ids}; stops at {stops}"


def _images(folder: Path) -> str:
    processor = KimiVLImageProcessor.from_folder(folder)
    return f"images      at most {processor.in_token_limit:,} patches before padding"


def report(inspection: Inspection) -> None:
    """Print the findings, and the first problems last."""
    for line in inspection.lines:
        print(line)
    for problem in inspection.problems[:PROBLEMS_SHOWN]:
        print(f"problem     {problem}")
    if (more := len(inspection.problems) - PROBLEMS_SHOWN) > 0:
        print(f"            and {more} more")
