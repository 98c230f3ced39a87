"""A tiny random Kimi-VL in the published layout, for demos and tests.

The engine's CPU kernel for latent attention needs kv_lora_rank 512 and rope width 64, so those
two stay real and everything else shrinks. The vocabulary is a byte-pair encoding of the synthetic
problems' own words, in tiktoken format, followed by the 256 special slots.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from ..configs.errors import KVLError
from .checkpoint import SINGLE_FILE, persistent_state, published_tensors
from .configuration import KimiVLConfig
from .files.folders import checkpoint_folder
from .modeling import KimiVLForConditionalGeneration
from .tokenization import PATTERN, RESERVED_SLOTS

BASE_RANKS = 768

# Widths are multiples of 32 for the engine's mixture-of-experts kernel.
TINY_TEXT = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "n_shared_experts": 2,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "routed_scaling_factor": 2.446,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 64,
    "v_head_dim": 32,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "n_group": 1,
    "topk_group": 1,
    "aux_loss_alpha": 0.001,
    "seq_aux": True,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 800000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "tie_word_embeddings": False,
    "max_position_embeddings": 8192,
}
TINY_VISION = {
    "model_type": "moonvit",
    "patch_size": 14,
    "num_hidden_layers": 3,
    "hidden_size": 96,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "init_pos_emb_height": 16,
    "init_pos_emb_width": 16,
    "merge_kernel_size": [2, 2],
}


def train_ranks(texts: Iterable[str], count: int) -> list[bytes]:
    """`count` byte-pair tokens in rank order, the 256 bytes first, learned from `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=count, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(texts, trainer)
    byte_of = {char: byte for byte, char in _byte_alphabet().items()}
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [bytes(byte_of[char] for char in token) for token, _id in by_id]


def _byte_alphabet() -> dict[int, str]:
    """Byte → printable stand-in, as in GPT-2's byte-level encoding."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in alphabet]
    alphabet.update({byte: chr(256 + position) for position, byte in enumerate(others)})
    return alphabet


def write_tiny_checkpoint(
    folder: str | Path,
    texts: Iterable[str],
    seed: int = 0,
    *,
    text_config: dict[str, Any] = TINY_TEXT,
    vision_config: dict[str, Any] = TINY_VISION,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a random checkpoint of about 2 M parameters, or of the sizes given; the same seed
    writes the same bytes. The tokenizer's ranks are learnt from `texts`.

    Replaces a checkpoint; raises KVLError rather than any other folder.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "tiktoken.model").is_file():
        raise KVLError(f"{folder}: holds something else than a checkpoint; choose another folder")
    with checkpoint_folder(folder) as partial:
        _write_tiny(partial, seed, texts, text_config, vision_config, dtype)
    return folder


def _write_tiny(
    partial: Path,
    seed: int,
    texts: Iterable[str],
    text_config: dict[str, Any],
    vision_config: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    ranks = train_ranks(texts, BASE_RANKS)
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks)]
    (partial / "tiktoken.model").write_text("".join(lines))

    first, dtype_name = len(ranks), str(dtype).removeprefix("torch.")
    config = {
        "architectures": ["KimiVLForConditionalGeneration"],
        "model_type": "kimi_vl",
        "text_config": {
            **text_config,
            "torch_dtype": dtype_name,
            "vocab_size": first + RESERVED_SLOTS,
            "bos_token_id": first,
            "eos_token_id": first + 1,
            "pad_token_id": first + 255,
        },
        "vision_config": vision_config,
        "ignore_index": -100,
        "media_placeholder_token_id": first + 21,
        "vocab_size": first + RESERVED_SLOTS,
        "torch_dtype": dtype_name,
    }
    _write_json(partial / "config.json", config)
    _write_json(
        partial / "preprocessor_config.json",
        {
            "image_processor_type": "KimiVLImageProcessor",
            "patch_size": 14,
            "in_token_limit": 4096,
            "merge_kernel_size": [2, 2],
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "pad_input": True,
        },
    )
    _write_json(
        partial / "generation_config.json",
        {"bos_token_id": first, "eos_token_id": first + 1, "pad_token_id": first + 255},
    )
    torch.manual_seed(seed)
    model = KimiVLForConditionalGeneration(KimiVLConfig(**config))
    tensors = {
        name: tensor.to(dtype).contiguous()
        for name, tensor in published_tensors(persistent_state(model))
    }
    save_file(tensors, partial / SINGLE_FILE, metadata={"format": "pt"})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
