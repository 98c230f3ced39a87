"""Sequences laid end to end, with what several of them begin with laid only once.

Shapes: T packed tokens, R response tokens, L mixture-of-experts layers, k experts a token.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .attention import Document, positions_of
from .routing import NO_ROUTE


@dataclass(frozen=True, slots=True)
class PromptedSequence:
    """A prompt and one response to it.

    images     a key for each image of the prompt, in order; equal keys are the same picture
    routes     uint8 [tokens, L, k] of the first tokens of prompt and response, or None
    """

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    images: tuple[Hashable, ...] = ()
    routes: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError("a sequence needs a prompt: its last token predicts the first reply")

    @property
    def prefix(self) -> Hashable:
        """Equal for sequences whose prompts give the network the same work."""
        size = len(self.prompt)
        told = None if self.routes is None else self.routes[:size].tobytes()
        return self.prompt, self.images, told


@dataclass(frozen=True, slots=True)
class PackedSequences:
    """A packed row and where its responses are predicted.

    input_ids_T     int64
    documents       how tokens attend; covers the row
    target_index_R  int64, the row whose logits predict a response token; several may share one
    target_id_R     int64, in the order of the sequences given
    sequence_R      int64, which of them
    routes_TLk      uint8, None if no sequence has any
    images          the distinct images of the row
    image_index     which of them each run of image tokens shows
    """

    input_ids_T: torch.Tensor
    documents: tuple[Document, ...]
    target_index_R: torch.Tensor
    target_id_R: torch.Tensor
    sequence_R: torch.Tensor
    routes_TLk: torch.Tensor | None
    images: tuple[Hashable, ...]
    image_index: tuple[int, ...]

    @property
    def position_ids_T(self) -> torch.Tensor:
        """int64: the position of every token in its own sequence."""
        return positions_of(self.documents)


def pack_sequences(sequences: Sequence[PromptedSequence], share: bool = True) -> PackedSequences:
    """Lay out the sequences, in order of their prompts' first appearance.

    A prompt that several of them share is one document, with its images once, and the responses
    are continuations of it; routes of the prompt must agree for that. Without `share` every
    sequence is a document of its own.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, one in enumerate(sequences):
        groups.setdefault(one.prefix if share else number, []).append(number)

    input_ids: list[int] = []
    documents: list[Document] = []
    first_logit = [0] * len(sequences)  # row that predicts a sequence's first response token
    response_start = [0] * len(sequences)
    runs: list[Hashable] = []
    routed: list[tuple[PromptedSequence, int, int]] = []  # token range of it, in packed order
    for members in groups.values():
        prompt, start = sequences[members[0]].prompt, len(input_ids)
        input_ids += prompt
        runs += sequences[members[0]].images
        stop = len(input_ids)
        if len(members) > 1:
            documents.append(Document(start, len(prompt)))
            routed.append((sequences[members[0]], 0, len(prompt)))
        for number in members:
            one = sequences[number]
            first_logit[number], response_start[number] = stop - 1, len(input_ids)
            whole = len(prompt) + len(one.response)
            if len(members) == 1:
                documents.append(Document(start, whole))
                routed.append((one, 0, whole))
            elif one.response:
                documents.append(Document(len(input_ids), len(one.response), (start, stop)))
                routed.append((one, len(prompt), whole))
            input_ids += one.response
    images = tuple(dict.fromkeys(runs))
    numbered = {key: number for number, key in enumerate(images)}
    target_index = [
        row
        for number, one in enumerate(sequences)
        for row in _predicting(first_logit[number], response_start[number], len(one.response))
    ]
    return PackedSequences(
        input_ids_T=torch.tensor(input_ids, dtype=torch.int64),
        documents=tuple(documents),
        target_index_R=torch.tensor(target_index, dtype=torch.int64),
        target_id_R=torch.tensor([t for one in sequences for t in one.response], dtype=torch.int64),
        sequence_R=torch.repeat_interleave(
            torch.tensor([len(one.response) for one in sequences], dtype=torch.int64)
        ),
        routes_TLk=_routes(routed),
        images=images,
        image_index=tuple(numbered[key] for key in runs),
    )


def _predicting(first: int, start: int, length: int) -> list[int]:
    return [first, *range(start, start + length - 1)] if length else []


def _routes(parts: Sequence[tuple[PromptedSequence, int, int]]) -> torch.Tensor | None:
    shape = next((one.routes.shape[1:] for one, _, _ in parts if one.routes is not None), None)
    if shape is None:
        return None
    rows = []
    for one, start, stop in parts:
        told = np.full((stop - start, *shape), NO_ROUTE, dtype=np.uint8)
        if one.routes is not None:
            known = one.routes[start:stop]
            told[: len(known)] = known
        rows.append(told)
    return torch.from_numpy(np.concatenate(rows))
