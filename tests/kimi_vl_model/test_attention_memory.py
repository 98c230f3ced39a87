"""Attention keeps no scores: equal results in memory that grows with the tokens only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from kvl.kimi_vl_model import attention
from kvl.kimi_vl_model.attention import causal_attention, document_buckets, packed_attention
from kvl.kimi_vl_model.configuration import MoonViTConfig
from kvl.kimi_vl_model.vision import MoonViT
from torch.nn.attention import SDPBackend, sdpa_kernel

MIB = 2**20


def peak_bytes(work: Callable[[], object]) -> int:
    """Peak resident memory of `work` above what was held before."""

    def held(field: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

    Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM anew
    before = held("VmRSS")
    work()
    return held("VmHWM") - before


def states(length: int, heads: int, wide: int, narrow: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(length)
    return [
        torch.randn(2, heads, length, width, generator=generator, requires_grad=True)
        for width in (wide, wide, narrow)
    ]


@pytest.mark.parametrize("length", [1, 7, 255, 256, 1030])
@pytest.mark.parametrize("widths", [(192, 128), (96, 32), (64, 64)])
def test_padded_values_change_neither_results_nor_gradients(
    length: int, widths: tuple[int, int]
) -> None:
    inputs, scaling = states(length, 2, *widths), widths[0] ** -0.5
    query, key, value = inputs
    cotangent = torch.randn_like(value)
    found, expected = (
        (output.detach(), *torch.autograd.grad(output, inputs, cotangent))
        for output in (
            causal_attention(query, key, value, scaling),
            F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling),
        )
    )
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_a_long_document_needs_memory_for_its_tokens_only() -> None:
    length, heads = 8192, 2
    query = torch.randn(1, heads, length, 96, requires_grad=True)
    value = torch.randn(1, heads, length, 32, requires_grad=True)
    documents = [attention.Document(0, length)]

    def work() -> None:
        buckets = document_buckets(documents)
        output, _ = packed_attention(
            torch.nn.Identity(), query, query, value, None, 0.1, buckets=buckets
        )
        output.sum().backward()

    scores = heads * length**2 * 4
    assert peak_bytes(work) < scores / 4

    def quadratic() -> None:
        with sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            F.scaled_dot_product_attention(query, query, value, is_causal=True)

    assert peak_bytes(quadratic) > scores  # the probe would see it


def test_an_image_of_16384_patches_needs_memory_for_its_patches_only() -> None:
    heads, grid = 2, (128, 128)
    config = MoonViTConfig(
        num_hidden_layers=1, hidden_size=32, num_attention_heads=heads, intermediate_size=64
    )
    tower, patches = MoonViT(config), grid[0] * grid[1]
    pixels = torch.randn(patches, 3, 14, 14)
    peak = peak_bytes(lambda: tower(pixels, torch.tensor([grid])).sum().backward())
    assert peak < heads * patches**2 * 4 / 8
