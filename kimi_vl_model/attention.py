"""Causal attention over packed documents that never looks, or pays, across their borders.

transformers' own packed path builds a [T, T] mask and computes T² scores; a row of a hundred
short rollouts then spends most of its time on scores that are masked away. Here documents of
similar length are laid out side by side and attended causally, so the cost is the sum of their
own squares and no mask exists: right-padding is invisible to causal attention.

A document may continue another one: its row then lists that prefix's tokens before its own and
writes only its own, so several continuations see a prefix that passed the network once.

Shapes: T packed tokens, H heads, d query-key width, v value width; n documents of at most L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

NAME = "kvl_packed_documents"


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens [start, start + length) of a packed row.

    prefix is the [start, stop) of the tokens it continues, empty for a document of its own.
    """

    start: int
    length: int
    prefix: tuple[int, int] = (0, 0)

    @property
    def row_length(self) -> int:
        """Tokens that its attention row lists."""
        return self.prefix[1] - self.prefix[0] + self.length


@dataclass(frozen=True, slots=True)
class DocumentBucket:
    """Documents whose rows have similar lengths.

    index_nL    flat token index of each position; past a row's end, its last token again
    source_M    the positions of index_nL, flattened, that are a document's own
    target_M    and the tokens they are
    """

    index_nL: torch.Tensor
    source_M: torch.Tensor
    target_M: torch.Tensor


def documents_of(position_ids: torch.Tensor) -> list[Document]:
    """The documents of [B, T] position_ids, each starting where the position is 0.

    Raises ValueError if the first position is not 0.
    """
    flat = position_ids.flatten()
    starts = (flat == 0).nonzero()[:, 0].tolist()
    if not starts or starts[0] != 0:
        raise ValueError("position_ids must start at 0: every document needs its own positions")
    stops = [*starts[1:], flat.numel()]
    return [Document(start, stop - start) for start, stop in zip(starts, stops, strict=True)]


def positions_of(documents: Sequence[Document]) -> torch.Tensor:
    """int64 [T]: the position of every token in its row."""
    rows = [torch.arange(d.row_length - d.length, d.row_length) for d in documents]
    return torch.cat(rows)


def document_buckets(
    documents: Sequence[Document], device: torch.device | str = "cpu"
) -> list[DocumentBucket]:
    """Index tensors for documents that lie end to end and cover the packed row.

    Row lengths in a bucket differ by less than a factor of two, which bounds the padding. Raises
    ValueError for gaps, overlaps, and a prefix that does not lie before its continuation.
    """
    _require_cover(documents)
    by_size: dict[int, list[Document]] = {}
    for document in documents:
        by_size.setdefault((document.row_length - 1).bit_length(), []).append(document)
    buckets = []
    for members in by_size.values():
        longest = max(document.row_length for document in members)
        index, source, target = [], [], []
        for row, document in enumerate(members):
            own = torch.arange(document.start, document.start + document.length)
            listed = torch.cat([torch.arange(*document.prefix), own])
            index.append(F.pad(listed, (0, longest - len(listed)), value=int(own[-1])))
            source.append(torch.arange(len(listed) - len(own), len(listed)) + row * longest)
            target.append(own)
        tensors = (torch.stack(index), torch.cat(source), torch.cat(target))
        # Made on the host and sent: nothing here or in a layer waits for the device.
        buckets.append(DocumentBucket(*(t.to(device, non_blocking=True) for t in tensors)))
    return buckets


def _require_cover(documents: Sequence[Document]) -> None:
    stop = 0
    for document in documents:
        if document.start != stop or document.length < 1:
            raise ValueError(f"{document} does not begin at token {stop}, where the last one ends")
        if not 0 <= document.prefix[0] <= document.prefix[1] <= document.start:
            raise ValueError(f"{document}: its prefix must lie before it")
        stop += document.length


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    buckets: list[DocumentBucket] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface: [B, H, T, d] in, [B, T, H, v] out."""
    if attention_mask is not None or buckets is None:
        raise ValueError("packed attention takes document buckets, not an attention mask")
    batch, length = query.shape[0], query.shape[2]
    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    output = value.new_empty(batch * length, value.shape[1], value.shape[2])
    for bucket in buckets:
        q, k, v = (x[bucket.index_nL].transpose(1, 2) for x in (query, key, value))
        attended = causal_attention(q, k, v, scaling).transpose(1, 2).flatten(0, 1)
        output = output.index_copy(0, bucket.target_M, attended[bucket.source_M])
    return output.unflatten(0, (batch, length)), None


def causal_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
) -> torch.Tensor:
    """[n, H, L, d] queries and keys, [n, H, L, v] values → [n, H, L, v], memory linear in n·L.

    torch's flash kernels want values as wide as queries; narrower ones take a path that keeps
    all L² scores. Zeros behind the values change no result.
    """
    wide, narrow = query.shape[-1], value.shape[-1]
    if wide > narrow and _padding_pays(query.shape[-2], wide, narrow, query.device.type):
        value = F.pad(value, (0, wide - narrow))
    attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    return attended[..., :narrow]


def _padding_pays(length: int, wide: int, narrow: int, device_type: str) -> bool:
    """Measured on CPU, forward and backward (`benchmarks/attention_memory.py`): at the published
    widths (192, 128) as fast from 256 tokens and faster from 1,024; at the tiny model's (96, 32) a
    quarter slower below 1,024. Shorter rows keep their scores, L of them per token and head.
    """
    if device_type != "cpu":
        return True  # not measured: the memory, not the time, decides
    return length >= (256 if 2 * narrow > wide else 1024)


AttentionInterface.register(NAME, packed_attention)
