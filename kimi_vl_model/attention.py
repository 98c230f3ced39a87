"""Causal attention over packed documents that never looks, or pays, across their borders.

transformers' own packed path builds a [T, T] mask and computes T² scores; a row of a hundred
short rollouts then spends most of its time on scores that are masked away. Here documents of
similar length are laid out side by side and attended causally, so the cost is the sum of their
own squares and no mask exists: right-padding is invisible to causal attention.

Shapes: T packed tokens, H heads, d query-key width, v value width; n documents of at most L tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface

NAME = "kvl_packed_documents"


@dataclass(frozen=True, slots=True)
class DocumentBucket:
    """Documents of similar length.

    index_nL    flat token index of each position; past a document's end, its last token again
    valid_nL    where index_nL is a document's own position
    """

    index_nL: torch.Tensor
    valid_nL: torch.Tensor


def document_buckets(position_ids: torch.Tensor) -> list[DocumentBucket]:
    """Find the documents of [B, T] position_ids, each starting where the position is 0.

    Lengths in a bucket differ by less than a factor of two, which bounds the padding.
    """
    flat = position_ids.flatten()
    starts = (flat == 0).nonzero()[:, 0].tolist()
    if not starts or starts[0] != 0:
        raise ValueError("position_ids must start at 0: every document needs its own positions")
    by_size: dict[int, list[tuple[int, int]]] = {}
    for start, stop in zip(starts, [*starts[1:], flat.numel()], strict=True):
        by_size.setdefault((stop - start - 1).bit_length(), []).append((start, stop - start))
    buckets = []
    for documents in by_size.values():
        start_n, length_n = torch.tensor(documents, device=flat.device).unbind(1)
        offset_L = torch.arange(int(length_n.max()), device=flat.device)
        valid_nL = offset_L < length_n[:, None]
        index_nL = start_n[:, None] + torch.minimum(offset_L, length_n[:, None] - 1)
        buckets.append(DocumentBucket(index_nL, valid_nL))
    return buckets


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
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling)
        output = output.index_copy(
            0, bucket.index_nL[bucket.valid_nL], attended.transpose(1, 2)[bucket.valid_nL]
        )
    return output.unflatten(0, (batch, length)), None


AttentionInterface.register(NAME, packed_attention)
