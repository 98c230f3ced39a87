"""A problem's prompt as the engine takes it: token ids, and image patches with their places."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..problems.types import ImageSource, ProblemError
from .types import RolloutRequest, SamplingSettings

if TYPE_CHECKING:
    import torch

    from ..kimi_vl_model.processing import KimiVLProcessor

MAX_IMAGES_PER_PROMPT = 64


@dataclass(frozen=True, slots=True)
class PromptImage:
    """One image of a prompt: where its tokens stand, and its patches."""

    offset: int
    tokens: int
    pixel_values: torch.Tensor  # in the engine's dtype, [rows · columns, 3, 14, 14]
    grid: torch.Tensor  # int64 [2]
    digest: str


@dataclass(frozen=True, slots=True)
class Prompt:
    token_ids: list[int]
    images: tuple[PromptImage, ...]


def prepare(
    request: RolloutRequest,
    settings: SamplingSettings,
    processor: KimiVLProcessor,
    max_model_len: int,
    dtype: torch.dtype,
) -> Prompt:
    """Raises ProblemError for images that cannot be used, or a prompt that leaves a response no
    room within `max_model_len` tokens."""
    from ..kimi_vl_model.tokenization import MEDIA_PAD, token_id

    images = [part.open() for part in request.parts if isinstance(part, ImageSource)]
    decoded = iter(images)
    parts = [part if isinstance(part, str) else next(decoded) for part in request.parts]
    encoded = processor.encode_prompt(parts)
    token_ids = list(encoded.token_ids)
    if settings.response_prefix:
        token_ids += processor.chat.text(settings.response_prefix)
    room = max_model_len - len(token_ids)
    needed = settings.max_total_tokens or settings.max_response_tokens
    if room < needed:
        raise ProblemError(
            f"problem {request.problem_id}: its prompt of {len(token_ids)} tokens "
            f"leaves {max(room, 0)} of max_model_len {max_model_len}, less than "
            f"the {needed} tokens that a response may have"
        )
    if len(images) > MAX_IMAGES_PER_PROMPT:
        raise ProblemError(
            f"problem {request.problem_id}: {len(images)} images, at most "
            f"{MAX_IMAGES_PER_PROMPT} are possible"
        )
    media_pad = token_id(processor.tokenizer, MEDIA_PAD)
    placed: list[PromptImage] = []
    position = 0
    for image, tokens in zip(images, encoded.image_tokens, strict=True):
        position = token_ids.index(media_pad, position)
        patches = processor.image_processor.preprocess(image)
        pixels = patches["pixel_values"]
        digest = hashlib.blake2b(pixels.numpy().tobytes(), digest_size=16).hexdigest()
        grid = patches["image_grid_hws"][0]
        placed.append(PromptImage(position, tokens, pixels.to(dtype), grid, digest))
        position += tokens
    return Prompt(token_ids, tuple(placed))


def engine_input(
    prompt: Prompt, sampled: Sequence[int], weight_version: int, with_patches: bool = True
) -> Any:
    """What vLLM is asked to go on from: the prompt and the response tokens there are already.

    Without patches, images are named by their hashes only: the engine has them from the request
    just before this one. Whatever the engine caches (prefix blocks, image embeddings) it caches
    under names that hold the weight version: nothing computed by old weights is ever reused.
    """
    from vllm.inputs import mm_input, tokens_input
    from vllm.multimodal.inputs import (
        MultiModalBatchedField,
        MultiModalFieldElem,
        MultiModalFlatField,
        MultiModalKwargsItem,
        MultiModalKwargsItems,
        PlaceholderRange,
    )

    version = str(weight_version)
    token_ids = [*prompt.token_ids, *sampled]
    if not prompt.images:
        return tokens_input(token_ids, cache_salt=version)
    items: list[Any] = [
        MultiModalKwargsItem(
            {
                "pixel_values": MultiModalFieldElem(
                    data=image.pixel_values,
                    field=MultiModalFlatField(slices=[slice(0, len(image.pixel_values))]),
                ),
                "image_grid_hws": MultiModalFieldElem(
                    data=image.grid, field=MultiModalBatchedField(keep_on_cpu=True)
                ),
            }
        )
        for image in prompt.images
    ]
    if not with_patches:
        items = [None] * len(items)
    return mm_input(
        prompt_token_ids=token_ids,
        mm_kwargs=MultiModalKwargsItems({"image": items}),
        mm_hashes={"image": [f"{image.digest}@{version}" for image in prompt.images]},
        mm_placeholders={
            "image": [PlaceholderRange(image.offset, image.tokens) for image in prompt.images]
        },
        cache_salt=version,
    )
