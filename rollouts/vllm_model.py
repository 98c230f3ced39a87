"""vLLM's Kimi-VL with the two things a trainer needs it to do differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast
from vllm.config import VllmConfig
from vllm.model_executor.models import kimi_vl

from ..kimi_vl_model.tokenization import load_tokenizer


class KimiVLForConditionalGeneration(kimi_vl.KimiVLForConditionalGeneration):
    """vLLM normalises the compressed key-value latent with eps 1e-5; Kimi-VL was trained with
    the 1e-6 of its published code, which our learner uses too."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        eps = getattr(self.config, "kv_a_layernorm_eps", 1e-6)
        for name, module in self.named_modules():
            if name.endswith("kv_a_layernorm"):
                module.variance_epsilon = eps  # pyright: ignore[reportArgumentType]


class KimiVLTokenizer(PreTrainedTokenizerFast):
    """How transformers' AutoTokenizer finds our tokenizer for a published checkpoint folder.

    vLLM's own text entry points mark an image by writing its placeholder into the text, so here
    control tokens in text count. Rollouts do not come this way: they send token ids.
    """

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: str | Path, *_: Any, **__: Any
    ) -> PreTrainedTokenizerFast:
        tokenizer = load_tokenizer(pretrained_model_name_or_path)
        tokenizer.split_special_tokens = False
        tokenizer.backend_tokenizer.encode_special_tokens = False
        return tokenizer
