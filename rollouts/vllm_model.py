"""vLLM's Kimi-VL with the three things a trainer needs it to do differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast
from vllm.config import VllmConfig
from vllm.model_executor.models import kimi_vl

from ..kimi_vl_model.tokenization import load_tokenizer

# In vLLM's `additional_config`: ids that must have probability zero.
BANNED_IDS = "banned_ids"


class KimiVLForConditionalGeneration(kimi_vl.KimiVLForConditionalGeneration):
    """vLLM normalises the compressed key-value latent with eps 1e-5; Kimi-VL was trained with
    the 1e-6 of its published code, which our learner uses too. Ids that the engine's config bans
    are masked here, once per step for all rows: as a request's `logit_bias` vLLM would rebuild
    lists of ids × rows whenever a request comes or goes."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        eps = getattr(self.config, "kv_a_layernorm_eps", 1e-6)
        for name, module in self.named_modules():
            if name.endswith("kv_a_layernorm"):
                module.variance_epsilon = eps  # pyright: ignore[reportArgumentType]
        settings: Any = vllm_config.additional_config
        # Not a buffer: a weight update must not find it among the model's tensors.
        self._banned = torch.tensor(settings.get(BANNED_IDS, ()), dtype=torch.int64)

    def compute_logits(self, hidden_states: torch.Tensor, **arguments: Any) -> Any:
        """[rows, vocabulary], −inf for banned ids: log-probs are of the allowed distribution."""
        logits = super().compute_logits(hidden_states, **arguments)
        if logits is not None and len(self._banned):  # None on all tensor-parallel ranks but one
            self._banned = self._banned.to(logits.device)
            logits.index_fill_(-1, self._banned, -torch.inf)
        return logits


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
