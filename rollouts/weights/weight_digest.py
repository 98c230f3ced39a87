"""A checksum of named tensors, for both ends of a weight transfer."""

from __future__ import annotations

import torch
import xxhash


class WeightDigest:
    """Over names, types, shapes and bytes, in their order; against accidents, not attackers."""

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """`tensor` is contiguous and in main memory."""
        self._hash.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        if tensor.numel():
            self._hash.update(tensor.view(-1).view(torch.uint8).numpy())  # pyright: ignore

    @property
    def value(self) -> str:
        return self._hash.hexdigest()
