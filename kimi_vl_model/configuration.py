"""Kimi-VL's config.json as transformers configs (spec: the published Instruct config)."""

from __future__ import annotations

from typing import Any

from transformers import DeepseekV3Config
from transformers.configuration_utils import PreTrainedConfig


class MoonViTConfig(PreTrainedConfig):
    """The vision tower: a ViT on 14×14 patches at native resolution with 2D rotary embedding."""

    model_type = "moonvit"
    base_config_key = "vision_config"

    def __init__(
        self,
        patch_size: int = 14,
        init_pos_emb_height: int = 64,
        init_pos_emb_width: int = 64,
        num_attention_heads: int = 16,
        num_hidden_layers: int = 27,
        hidden_size: int = 1152,
        intermediate_size: int = 4304,
        merge_kernel_size: tuple[int, int] = (2, 2),
        **kwargs: Any,
    ) -> None:
        self.patch_size = patch_size
        self.init_pos_emb_height = init_pos_emb_height
        self.init_pos_emb_width = init_pos_emb_width
        self.num_attention_heads = num_attention_heads
        self.num_hidden_layers = num_hidden_layers
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.merge_kernel_size = list(merge_kernel_size)
        super().__init__(**kwargs)


class KimiVLConfig(PreTrainedConfig):
    """The whole model.

    `kv_a_layernorm_eps` is the epsilon of the norm on the compressed key-value latent. The
    published code uses 1e-6 there and 1e-5 everywhere else; vLLM would use 1e-5 for both, so
    the engine plug-in sets it from this one value.
    """

    model_type = "kimi_vl"
    sub_configs = {"text_config": DeepseekV3Config, "vision_config": MoonViTConfig}  # noqa: RUF012

    def __init__(
        self,
        text_config: dict[str, Any] | DeepseekV3Config | None = None,
        vision_config: dict[str, Any] | MoonViTConfig | None = None,
        ignore_index: int = -100,
        media_placeholder_token_id: int = 163605,
        kv_a_layernorm_eps: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        if not isinstance(text_config, DeepseekV3Config):
            # The published decoder has no multi-token-prediction layer; transformers assumes one.
            text_config = DeepseekV3Config(**{"num_mtp_layers": 0, **(text_config or {})})
        if not isinstance(vision_config, MoonViTConfig):
            vision_config = MoonViTConfig(**(vision_config or {}))
        self.text_config = text_config
        self.vision_config = vision_config
        self.ignore_index = ignore_index
        self.media_placeholder_token_id = media_placeholder_token_id
        self.kv_a_layernorm_eps = kv_a_layernorm_eps
        kwargs.setdefault("pad_token_id", text_config.pad_token_id)
        super().__init__(**kwargs)
