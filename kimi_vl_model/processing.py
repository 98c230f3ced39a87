"""Chat turns with images → token ids, and the processor object vLLM asks for.

Control tokens enter by id only. Text is encoded with special-token matching switched off, so a
user who types "<|im_end|>" gets the characters, not the control token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerFast
from transformers.processing_utils import ProcessorMixin

from . import tokenization as names
from .image_processing import KimiVLImageProcessor
from .tokenization import load_tokenizer

SYSTEM_PROMPT = "You are a helpful assistant"


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt ready for the model.

    token_ids       with every image expanded to its run of `<|media_pad|>`
    image_tokens    length of each run, in prompt order
    """

    token_ids: tuple[int, ...]
    image_tokens: tuple[int, ...]


class ChatEncoder:
    """Token ids of Kimi-VL's chat format, which has no newlines:
    `<|im_user|>user<|im_middle|>…<|im_end|><|im_assistant|>assistant<|im_middle|>…<|im_end|>`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._slots = tokenizer.get_added_vocab()

    def control(self, token: str) -> int:
        return self._slots[token]

    def text(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def opening(self, role_token: str, role: str) -> list[int]:
        return [self.control(role_token), *self.text(role), self.control(names.IM_MIDDLE)]

    def image(self, tokens: int) -> list[int]:
        return [
            self.control(names.MEDIA_START),
            *self.text("image"),
            self.control(names.MEDIA_CONTENT),
            *[self.control(names.MEDIA_PAD)] * tokens,
            self.control(names.MEDIA_END),
        ]

    def user_turn(self, parts: Sequence[str | int], system: str = SYSTEM_PROMPT) -> list[int]:
        """System and user turn, up to where the assistant starts.

        parts: text, or for an image its number of tokens.
        """
        end = self.control(names.IM_END)
        ids = [*self.opening(names.IM_SYSTEM, "system"), *self.text(system), end]
        ids += self.opening(names.IM_USER, "user")
        for part in parts:
            ids += self.image(part) if isinstance(part, int) else self.text(part)
        return [*ids, end, *self.opening(names.IM_ASSISTANT, "assistant")]

    def assistant_reply(self, text: str) -> list[int]:
        """The reply and its closing token: exactly what supervised training puts loss on."""
        return [*self.text(text), self.control(names.IM_END)]


class KimiVLProcessor(ProcessorMixin):
    """Image processor and tokenizer in one object, as vLLM's multimodal registry expects it."""

    attributes = ["image_processor", "tokenizer"]  # noqa: RUF012
    image_processor_class = "KimiVLImageProcessor"
    tokenizer_class = "PreTrainedTokenizerFast"

    def __init__(
        self, image_processor: KimiVLImageProcessor, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        self.image_processor = image_processor
        self.tokenizer = tokenizer
        self.image_token = names.MEDIA_PAD
        self.chat_template = None
        self.chat = ChatEncoder(tokenizer)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, pretrained_model_name_or_path: str | Path, *_: Any, **__: Any
    ) -> KimiVLProcessor:
        """From a checkpoint folder on disk; raises CheckpointError naming a missing file."""
        folder = Path(pretrained_model_name_or_path)
        return cls(KimiVLImageProcessor.from_folder(folder), load_tokenizer(folder))

    def encode_prompt(self, parts: Sequence[str | Image.Image]) -> EncodedPrompt:
        """The prompt of one user turn made of text and images."""
        counted: list[str | int] = []
        for part in parts:
            counted.append(
                self.image_processor.tokens(*part.size) if isinstance(part, Image.Image) else part
            )
        image_tokens = tuple(count for count in counted if isinstance(count, int))
        return EncodedPrompt(tuple(self.chat.user_turn(counted)), image_tokens)

    def __call__(
        self,
        images: Image.Image | Sequence[Image.Image] | None = None,
        text: str | Sequence[str] | None = None,
        return_tensors: str | None = "pt",
        **_: Any,
    ) -> BatchFeature:
        """vLLM's entry: patches of the images beside the ids of a text in which each image is
        one bare `<|media_pad|>` (expanded by vLLM itself)."""
        data: dict[str, Any] = {}
        if images is not None and not (isinstance(images, Sequence) and not images):
            data.update(self.image_processor.preprocess(images))
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            data["input_ids"] = torch.tensor([self._ids_with_pads(one) for one in texts])
        return BatchFeature(data)

    def _ids_with_pads(self, text: str) -> list[int]:
        ids: list[int] = []
        for position, piece in enumerate(text.split(names.MEDIA_PAD)):
            if position:
                ids.append(self.chat.control(names.MEDIA_PAD))
            ids += self.chat.text(piece) if piece else []
        return ids
