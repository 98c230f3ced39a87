"""Sequences → minibatches → packed tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch

from ...kimi_vl_model.routing import NO_ROUTE
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

    input_ids_T        token ids, prompt then response, sequence after sequence
    position_ids_T     restarts at 0 with every sequence: this is what isolates them
    target_index_R     position t whose logits predict a response token (the token at t + 1)
    target_id_R        the response token there
    sequence_R         which of the S sequences each response token belongs to
    advantage_S        detached advantages
    engine_logprob_R   what the engine said when it sampled the token
    stale_R            bool, tokens that weights older than this iteration's sampled
    routes_TLk         uint8, the engine's experts; NO_ROUTE for a token without a route, as the
                       last of a sequence; None if no sequence has any
    pixel_values       f32 [P, 3, 14, 14], patches of the batch's distinct images, or None
    image_grid_hws     int64 [images, 2] in patches, or None
    image_index        int64 [placeholders]: the distinct image behind each image run in
                       input order; k samples of a group share one entry
    """

    input_ids_T: torch.Tensor
    position_ids_T: torch.Tensor
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
            tensor = getattr(self, field.name)
            moved[field.name] = None if tensor is None else tensor.to(device)
        return Batch(**moved)


def split_minibatches(groups: Sequence[T], count: int) -> list[list[T]]:
    """`count` lists of whole groups of nearly equal number, in order; never an empty one."""
    count = min(count, len(groups))
    if not count:
        return []
    bounds = [round(position * len(groups) / count) for position in range(count + 1)]
    return [list(groups[start:stop]) for start, stop in pairwise(bounds)]


def split_packs(sequences: Sequence[TokenSequence], pack_tokens: int) -> list[list[TokenSequence]]:
    """Packs of at most `pack_tokens` tokens, in order.

    A sequence longer than that has a pack of its own. Samples of one group stay neighbours, so
    that the pack computes their image features once.
    """
    packs: list[list[TokenSequence]] = []
    room = 0
    for sequence in sequences:
        if not packs or len(sequence) > room:
            packs.append([])
            room = pack_tokens
        packs[-1].append(sequence)
        room -= len(sequence)
    return packs


def pack(
    sequences: Sequence[TokenSequence],
    patchify: Callable[[ImageSource], Patches],
    weight_version: int = 0,
) -> Batch:
    """Lay sequences end to end. `patchify` is called once per distinct image of the pack.

    Tokens of segments older than `weight_version` are marked stale.
    """
    input_ids: list[int] = []
    position_ids: list[int] = []
    target_index: list[int] = []
    target_id: list[int] = []
    sequence_of: list[int] = []
    engine_logprobs: list[float] = []
    stale: list[bool] = []
    patches: list[np.ndarray] = []
    grids: list[tuple[int, int]] = []
    image_index: list[int] = []
    index_of: dict[ImageSource, int] = {}
    for number, sequence in enumerate(sequences):
        prompt, response = sequence.prompt_token_ids, sequence.response_token_ids
        start = len(input_ids) + len(prompt)
        input_ids += [*prompt, *response]
        position_ids += range(len(sequence))
        target_index += range(start - 1, start - 1 + len(response))
        target_id += response
        sequence_of += [number] * len(response)
        engine_logprobs += sequence.engine_logprobs
        stale += _stale(sequence, weight_version)
        for source in sequence.images:
            if source not in index_of:
                index_of[source] = len(grids)
                image_patches, grid = patchify(source)
                patches.append(image_patches)
                grids.append(grid)
            image_index.append(index_of[source])
    return Batch(
        input_ids_T=torch.tensor(input_ids),
        position_ids_T=torch.tensor(position_ids),
        target_index_R=torch.tensor(target_index, dtype=torch.int64),
        target_id_R=torch.tensor(target_id, dtype=torch.int64),
        sequence_R=torch.tensor(sequence_of, dtype=torch.int64),
        advantage_S=torch.tensor([sequence.advantage for sequence in sequences]),
        engine_logprob_R=torch.tensor(engine_logprobs),
        stale_R=torch.tensor(stale, dtype=torch.bool),
        routes_TLk=_routes(sequences),
        pixel_values=torch.from_numpy(np.concatenate(patches)) if patches else None,
        image_grid_hws=torch.tensor(grids) if grids else None,
        image_index=torch.tensor(image_index) if grids else None,
    )


def _stale(sequence: TokenSequence, weight_version: int) -> list[bool]:
    if not sequence.segments:
        return [False] * len(sequence.response_token_ids)
    return [
        segment.weight_version < weight_version
        for segment in sequence.segments
        for _ in range(segment.stop - segment.start)
    ]


def _routes(sequences: Sequence[TokenSequence]) -> torch.Tensor | None:
    """uint8 [T, L, k] of the sequences end to end."""
    shape = next(((s.routes.layers, s.routes.experts) for s in sequences if s.routes), None)
    if shape is None:
        return None
    rows = []
    for sequence in sequences:
        routes_TLk = np.full((len(sequence), *shape), NO_ROUTE, dtype=np.uint8)
        if sequence.routes is not None:
            told = np.frombuffer(sequence.routes.data, dtype=np.uint8)
            routes_TLk[: sequence.routes.tokens] = told.reshape(-1, *shape)
        rows.append(routes_TLk)
    return torch.from_numpy(np.concatenate(rows))
