"""Kimi-VL as a transformers model: MoonViT → projector → merge → DeepseekV3 decoder.

Shapes: T tokens of one packed row, D hidden size, V vocabulary, P patches, I distinct images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from transformers import DeepseekV3ForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from . import attention, routing
from .configuration import KimiVLConfig
from .logprobs import token_logprobs
from .vision import MoonViT, PositionTable


class MultiModalProjector(nn.Module):
    """2×2 patch blocks [N, 4, D_vision] → text embeddings [N, D]; erf GELU between two layers."""

    def __init__(self, config: KimiVLConfig) -> None:
        super().__init__()
        height, width = config.vision_config.merge_kernel_size
        merged = config.vision_config.hidden_size * height * width
        self.pre_norm = nn.LayerNorm(config.vision_config.hidden_size, eps=1e-5)
        self.linear_1 = nn.Linear(merged, merged)
        self.linear_2 = nn.Linear(merged, config.text_config.hidden_size)

    def forward(self, blocks: torch.Tensor) -> torch.Tensor:
        return self.linear_2(F.gelu(self.linear_1(self.pre_norm(blocks).flatten(1))))


class KimiVLForConditionalGeneration(PreTrainedModel):
    """The policy. Parameter names are the published ones, except that transformers fuses the
    routed experts of a layer into two tensors (`checkpoint.py` translates both ways)."""

    config_class = KimiVLConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["DeepseekV3DecoderLayer", "Block"]  # noqa: RUF012
    _tied_weights_keys: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, config: KimiVLConfig) -> None:
        super().__init__(config)
        self.vision_tower = MoonViT(config.vision_config)
        self.multi_modal_projector = MultiModalProjector(config)
        # Grouped matrix products run 7× faster than the eager expert loop, in the model's dtype.
        config.text_config._experts_implementation = "grouped_mm"
        self.language_model = DeepseekV3ForCausalLM(config.text_config)
        self.language_model.set_attn_implementation(attention.NAME)
        for layer in self.language_model.model.layers:
            layer.self_attn.kv_a_layernorm.variance_epsilon = config.kv_a_layernorm_eps  # pyright: ignore
        routing.install_routers(list(self.language_model.model.layers))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.text_config.initializer_range
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, PositionTable):
            nn.init.normal_(module.weight, std=std)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.lm_head

    def image_features(
        self, pixel_values: torch.Tensor, image_grid_hws: torch.Tensor
    ) -> list[torch.Tensor]:
        """One [h·w / 4, D] tensor per image."""
        dtype = self.multi_modal_projector.linear_1.weight.dtype
        blocks = self.vision_tower(pixel_values.to(dtype), image_grid_hws)
        sizes = (image_grid_hws.prod(-1) // blocks.shape[1]).tolist()
        return list(self.multi_modal_projector(blocks).split(sizes))

    def embed(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        image_grid_hws: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Token embeddings [B, T, D] with image features in place of `<|media_pad|>` rows.

        image_index names, for each image run in input order, the distinct image to use; None
        means each image once, in order. Raises ValueError when counts differ.
        """
        embeddings = self.get_input_embeddings()(input_ids)
        where = input_ids == self.config.media_placeholder_token_id
        if pixel_values is None or image_grid_hws is None:
            if where.any():
                raise ValueError(
                    f"the prompt holds {int(where.sum())} image tokens but comes without images"
                )
            return embeddings + self._pass_without_images() if _ranks_in_step() else embeddings
        features = self.image_features(pixel_values, image_grid_hws)
        order = range(len(features)) if image_index is None else image_index.tolist()
        rows = torch.cat([features[index] for index in order]).to(embeddings.dtype)
        if int(where.sum()) != rows.shape[0]:
            raise ValueError(
                f"the prompt holds {int(where.sum())} image tokens but its images make "
                f"{rows.shape[0]}: expand each placeholder to height × width / 4 patches"
            )
        return embeddings.masked_scatter(where[..., None], rows)

    def _pass_without_images(self) -> torch.Tensor:
        """Zero, out of the vision tower: ranks gather its weights and reduce its gradients
        together, so one whose batch is text only must not stay away."""
        weight = self.vision_tower.patch_embed.proj.weight
        grid = torch.tensor([self.config.vision_config.merge_kernel_size], device=weight.device)
        blank = weight.new_zeros(int(grid.prod()), *weight.shape[1:])
        return 0.0 * self.image_features(blank, grid)[0].sum()

    def forget_blank_images(self) -> None:
        """Drop the gradients of a step in which no rank saw an image: on several ranks they are
        zeros, which momentum and decay would act on, where one rank alone has none."""
        for part in (self.vision_tower, self.multi_modal_projector):
            for parameter in part.parameters():
                parameter.grad = None

    def hidden_states(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_grid_hws: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        routes: torch.Tensor | None = None,
        documents: Sequence[attention.Document] | None = None,
    ) -> torch.Tensor:
        """Final hidden states [B, T, D], before the LM head.

        position_ids [B, T] restart at 0 with every packed document and tell documents apart;
        None means one document per row. `documents` of the B·T tokens tell it instead, and
        may continue one another (`packing.py`). routes uint8 [B·T, L, k] names the experts to
        use (`routing.py`); None lets the routers choose.
        """
        if documents is not None:
            position_ids = attention.positions_of(documents).view(input_ids.shape)
            position_ids = position_ids.to(input_ids.device, non_blocking=True)
        elif position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)
            position_ids = position_ids.expand(input_ids.shape)
        if documents is None:
            documents = attention.documents_of(position_ids)
        return self.language_model.model(
            inputs_embeds=self.embed(input_ids, pixel_values, image_grid_hws, image_index),
            position_ids=position_ids,
            use_cache=False,
            buckets=attention.document_buckets(documents, input_ids.device),
            routes=routes,
        ).last_hidden_state

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_grid_hws: torch.Tensor | None = None,
        image_index: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        routes: torch.Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V], or with labels only the mean loss of the labelled tokens, computed
        in chunks so that the logits of the whole batch never exist.

        num_items_in_batch divides the summed loss instead of the number of labelled tokens
        here, so that accumulated and distributed steps weigh every token the same.
        """
        hidden = self.hidden_states(
            input_ids, position_ids, pixel_values, image_grid_hws, image_index, routes
        )
        if labels is None:
            weight = self.language_model.lm_head.weight
            with torch.autocast(hidden.device.type, enabled=False):
                return CausalLMOutputWithPast(logits=F.linear(hidden.to(weight.dtype), weight))  # pyright: ignore
        targets = F.pad(labels[:, 1:], (0, 1), value=self.config.ignore_index)
        chosen = targets != self.config.ignore_index
        logprobs, _entropy = token_logprobs(
            hidden[chosen], self.language_model.lm_head.weight, targets[chosen]
        )
        count = max(logprobs.numel(), 1) if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutputWithPast(loss=-logprobs.sum() / count)  # pyright: ignore


def _ranks_in_step() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
