"""What padding the values of attention to its queries' width costs and saves on a CPU.

`python benchmarks/attention_memory.py` writes benchmarks/results/attention_memory.json: forward
and backward on one thread, the best of five, and peak memory above the inputs, with and without
padding, at the published widths and at the tiny model's; then the shipped choice at 16k and 32k
tokens.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from kvl.kimi_vl_model.attention import causal_attention

OUT = Path(__file__).parent / "results" / "attention_memory.json"
# heads, query-key width, value width
PUBLISHED, TINY = (16, 192, 128), (2, 96, 32)
TOKENS = 2048  # of all rows together


def memory(field: str) -> float:
    """VmRSS or VmHWM of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(
    attend: Callable[..., torch.Tensor], widths: tuple[int, int, int], rows: int, length: int
) -> tuple[float, float]:
    """(milliseconds, MiB)."""
    heads, wide, narrow = widths
    inputs = [
        torch.randn(rows, length, heads, width, requires_grad=True)
        for width in (wide, wide, narrow)
    ]
    seconds, peaks = [], []
    for _ in range(5 if length <= TOKENS else 1):
        for tensor in inputs:
            tensor.grad = torch.zeros_like(tensor)
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier rows freed must count again
        Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM anew
        before, start = memory("VmRSS"), time.perf_counter()
        attend(*(tensor.transpose(1, 2) for tensor in inputs)).sum().backward()
        seconds.append(time.perf_counter() - start)
        peaks.append(memory("VmHWM") - before)
    return round(min(seconds) * 1000, 2), round(max(peaks), 1)


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def padded(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    wide = F.pad(v, (0, q.shape[-1] - v.shape[-1]))
    return F.scaled_dot_product_attention(q, k, wide, is_causal=True)[..., : v.shape[-1]]


def shipped(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return causal_attention(q, k, v, q.shape[-1] ** -0.5)


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for widths in (PUBLISHED, TINY):
        for length in (32, 64, 128, 256, 512, 1024, 2048):
            entry = {"heads, query, value": widths, "documents": TOKENS // length, "tokens": length}
            for name, attend in (("plain", plain), ("padded", padded)):
                milliseconds, mib = measure(attend, widths, TOKENS // length, length)
                entry |= {f"{name}_ms": milliseconds, f"{name}_mib": mib}
            rows.append(entry)
            print(entry, flush=True)
    for length in (8192, 16384, 32768):
        milliseconds, mib = measure(shipped, TINY, 1, length)
        rows.append(
            {
                "heads, query, value": TINY,
                "documents": 1,
                "tokens": length,
                "shipped_ms": milliseconds,
                "shipped_mib": mib,
                "scores_would_take_mib": TINY[0] * length**2 * 4 / 2**20,
            }
        )
        print(rows[-1], flush=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
