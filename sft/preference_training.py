"""What TRL's DPOTrainer needs to train Kimi-VL on the pairs of `kvl-sft distill --format dpo`.

    pairs = load_dataset("json", data_files="pairs.jsonl", split="train")
    DPOTrainer(
        model=preference_policy(load_model(checkpoint)),
        ref_model=preference_policy(load_model(checkpoint)),
        processing_class=processor,
        data_collator=PreferenceCollator(processor),
        train_dataset=pairs.cast_column("images", List(Image())),
        args=DPOConfig(...),
    )

TRL's own vision collator writes chat turns as one string and has the processor read it back. Ours
inserts control tokens by id only, so that typed ones stay text; hence a collator of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.modeling_outputs import BaseModelOutput

from ..kimi_vl_model.modeling import KimiVLForConditionalGeneration
from ..kimi_vl_model.processing import KimiVLProcessor
from ..kimi_vl_model.tokenization import PAD


class PreferenceCollator:
    """Rows of the pairs file, `images` decoded → the batch DPOTrainer expects."""

    def __init__(self, processor: KimiVLProcessor) -> None:
        self.processor = processor

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """The chosen sequences, then the rejected ones: int64 input_ids, attention_mask and
        completion_mask [2 · rows, T], padded at the end. pixel_values, image_grid_hws and
        image_index (both halves share the images) unless no row has an image.
        """
        prompts = [self._prompt_ids(row) for row in rows]
        chat = self.processor.chat
        ids, replies = [], []
        for side in ("chosen", "rejected"):
            for row, prompt in zip(rows, prompts, strict=True):
                reply = chat.assistant_reply(row[side][0]["content"])
                ids.append(torch.tensor(prompt + reply))
                replies.append(torch.tensor([0] * len(prompt) + [1] * len(reply)))
        pad = torch.nn.utils.rnn.pad_sequence
        batch = {
            "input_ids": pad(ids, True, chat.control(PAD)),
            "attention_mask": pad([torch.ones_like(one) for one in ids], True),
            "completion_mask": pad(replies, True),
        }
        images = [image for row in rows for image in row["images"]]
        if images:
            batch.update(self.processor.image_processor.preprocess(images))
            batch["image_index"] = torch.arange(len(images)).repeat(2)
        return batch

    def _prompt_ids(self, row: dict[str, Any]) -> list[int]:
        images = iter(row["images"])
        tokens = self.processor.image_processor.tokens
        return self.processor.chat.user_turn(
            [
                tokens(*next(images).size) if part["type"] == "image" else part["text"]
                for part in row["prompt"][0]["content"]
            ]
        )


class _PreferencePolicy(KimiVLForConditionalGeneration):
    """Kimi-VL whose `base_model` gives hidden states: DPOTrainer applies the LM head itself, to
    the reply's positions only."""

    @property
    def base_model(self) -> Any:
        return self._backbone

    def _backbone(
        self, attention_mask: torch.Tensor, use_cache: bool = False, **inputs: torch.Tensor
    ) -> BaseModelOutput:
        # Padding is at the end: a causal model needs no mask to keep it away from the sequence.
        return BaseModelOutput(last_hidden_state=self.hidden_states(**inputs))  # pyright: ignore


def preference_policy(model: KimiVLForConditionalGeneration) -> KimiVLForConditionalGeneration:
    """The same model, in place, ready for DPOTrainer as `model` or `ref_model`."""
    # The class of an existing module, as FSDP2 changes it: loading and names stay what they are.
    model.__class__ = _PreferencePolicy
    model.generation_config = GenerationConfig()  # DPOTrainer notes the padding token there
    return model
