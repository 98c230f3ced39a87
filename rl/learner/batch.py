"""Sequences → minibatches → packed tensors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch

from ...kimi_vl_model.attention import Document
from ...kimi_vl_model.packing import PromptedSequence, pack_sequences
from ...problems.prompt import prompt_parts
from ...problems.types import ImageSource, Problem
from ...rollouts.types import Rollout, Routes, Segment

Patches = tuple[np.ndarray, tuple[int, int]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A prompt and a response as the learner packs them: of a rollout, a probe, a demonstration.

    images           in the order in which the prompt shows them
    engine_logprobs  one per response token; zeros where no engine sampled it
    segments         which weights sampled which response tokens; () where none did
    """

    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    images: tuple[ImageSource, ...]
    engine_logprobs: tuple[float, ...]
    segments: tuple[Segment, ...] = ()
    advantage: float = 0.0
    routes: Routes | None = None

    def __len__(self) -> int:
        return len(self.prompt_token_ids) + len(self.response_token_ids)


def rollout_sequence(problem: Problem, rollout: Rollout, advantage: float = 0.0) -> TokenSequence:
    images = [part for part in prompt_parts(problem) if isinstance(part, ImageSource)]
    return TokenSequence(
        prompt_token_ids=rollout.prompt_token_ids,
        response_token_ids=rollout.response_token_ids,
        images=tuple(images),
        engine_logprobs=rollout.logprobs,
        segments=rollout.segments,
        advantage=advantage,
        routes=rollout.routes,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences packed end to end without padding (T tokens, S sequences, R response tokens).

    input_ids_T        token ids; a prompt that several sequences share lies there once
    documents          which tokens see which (`kimi_vl_model/attention.py`)
    target_index_R     position whose logits predict a response token; several may share one
    target_id_R        the response token
    sequence_R         which of the S sequences each response token belongs to, in their order
    advantage_S        detached advantages
    engine_logprob_R   what the engine said when it sampled the token
    stale_R            bool, tokens that weights older than this iteration's sampled
    routes_TLk         uint8, the engine's experts; NO_ROUTE for a token without a route, as the
                       last of a sequence; None if no sequence has any
    pixel_values       f32 [P, 3, 14, 14], patches of the batch's distinct images, or None
    image_grid_hws     int64 [images, 2] in patches, or None
    image_index        int64 [placeholders]: the distinct image behind each image run in
                       input order
    """

    input_ids_T: torch.Tensor
    documents: tuple[Document, ...]
    target_index_R: torch.Tensor
    target_id_R: torch.Tensor
    sequence_R: torch.Tensor
    advantage_S: torch.Tensor
    engine_logprob_R: torch.Tensor
    stale_R: torch.Tensor
    routes_TLk: torch.Tensor | None
    pixel_values: torch.Tensor | None
    image_grid_hws: torch.Tensor | None
    image_index: torch.Tensor | None

    @property
    def sequences(self) -> int:
        return int(self.advantage_S.shape[0])

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = value.to(device) if isinstance(value, torch.Tensor) else value
        return Batch(**moved)


def split_minibatches(groups: Sequence[T], count: int) -> list[list[T]]:
    """`count` lists of whole groups of nearly equal number, in order; never an empty one."""
    count = min(count, len(groups))
    if not count:
        return []
    bounds = [round(position * len(groups) / count) for position in range(count + 1)]
    return [list(groups[start:stop]) for start, stop in pairwise(bounds)]


def split_packs(sequences: Sequence[TokenSequence], pack_tokens: int) -> list[list[TokenSequence]]:
    """Packs of at most `pack_tokens` tokens, in order; a prompt that is in a pack already costs
    nothing more there.

    A sequence longer than that has a pack of its own. Samples of one group stay neighbours, so
    that the pack computes their prompt and its images once.
    """
    packs: list[list[TokenSequence]] = []
    room, prompts = 0, set[Hashable]()
    for sequence in sequences:
        prefix, response = _prompted(sequence).prefix, len(sequence.response_token_ids)
        cost = response if prefix in prompts else len(sequence)
        if not packs or cost > room:
            packs.append([])
            room, prompts = pack_tokens, set()
            cost = len(sequence)
        packs[-1].append(sequence)
        prompts.add(prefix)
        room -= cost
    return packs


def pack(
    sequences: Sequence[TokenSequence],
    patchify: Callable[[ImageSource], Patches],
    weight_version: int = 0,
) -> Batch:
    """Lay sequences end to end. `patchify` is called once per distinct image of the pack.

    Tokens of segments older than `weight_version` are marked stale.
    """
    packed = pack_sequences([_prompted(sequence) for sequence in sequences])
    pictures = [patchify(image) for image in packed.images]  # pyright: ignore[reportArgumentType]
    engine_logprobs = [logprob for one in sequences for logprob in one.engine_logprobs]
    stale = [old for one in sequences for old in _stale(one, weight_version)]
    return Batch(
        input_ids_T=packed.input_ids_T,
        documents=packed.documents,
        target_index_R=packed.target_index_R,
        target_id_R=packed.target_id_R,
        sequence_R=packed.sequence_R,
        advantage_S=torch.tensor([sequence.advantage for sequence in sequences]),
        engine_logprob_R=torch.tensor(engine_logprobs),
        stale_R=torch.tensor(stale, dtype=torch.bool),
        routes_TLk=packed.routes_TLk,
        pixel_values=torch.from_numpy(np.concatenate([p for p, _ in pictures]))
        if pictures
        else None,
        image_grid_hws=torch.tensor([grid for _, grid in pictures]) if pictures else None,
        image_index=torch.tensor(packed.image_index) if pictures else None,
    )


def _prompted(sequence: TokenSequence) -> PromptedSequence:
    routes = None
    if sequence.routes is not None:
        told = np.frombuffer(sequence.routes.data, dtype=np.uint8)
        routes = told.reshape(-1, sequence.routes.layers, sequence.routes.experts)
    return PromptedSequence(
        sequence.prompt_token_ids, sequence.response_token_ids, sequence.images, routes
    )


def _stale(sequence: TokenSequence, weight_version: int) -> list[bool]:
    if not sequence.segments:
        return [False] * len(sequence.response_token_ids)
    return [
        segment.weight_version < weight_version
        for segment in sequence.segments
        for _ in range(segment.stop - segment.start)
    ]
