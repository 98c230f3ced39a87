"""Peak memory of response log-probs: whole logits against chunks.

`python benchmarks/model_lm_head.py` writes benchmarks/results/model_lm_head.json. Every case runs
forward and backward in a process of its own; its peak is what was added to the resident inputs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import time
from pathlib import Path

import torch
from kvl.kimi_vl_model.logprobs import token_logprobs

OUT = Path(__file__).resolve().parent / "results" / "model_lm_head.json"
VOCABULARY, WIDTH, CHUNK = 163_840, 512, 1024


def naive(hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.cross_entropy(hidden @ weight.T, target, reduction="none")


def ours(hidden: torch.Tensor, weight: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return token_logprobs(hidden, weight, target, chunk=CHUNK)[0]


def measure(case: tuple[str, int]) -> dict[str, float | int | str]:
    name, tokens = case
    torch.set_num_threads(2)
    torch.manual_seed(0)
    hidden = torch.randn(tokens, WIDTH, requires_grad=True)
    weight = (torch.randn(VOCABULARY, WIDTH) * WIDTH**-0.5).requires_grad_()
    target = torch.randint(VOCABULARY, (tokens,))
    # Pages of the gradients that any method must end with are not what is compared.
    hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)
    hidden.grad += 1
    weight.grad += 1
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    logprobs = {"naive": naive, "ours": ours}[name](hidden, weight, target)
    logprobs.sum().backward()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
    return {
        "method": name,
        "tokens": tokens,
        "peak_gb": round(peak * 1024 / 1e9, 2),
        "seconds": round(seconds, 1),
        "mean_logprob": round(float(logprobs.detach().mean()), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    options = parser.parse_args()
    cases = []
    for tokens in options.tokens:
        for name in ("naive", "ours"):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                cases += pool.map(measure, [(name, tokens)])
            print(cases[-1], flush=True)
    result = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {"torch": torch.__version__},
        "command": "python benchmarks/model_lm_head.py",
        "vocabulary": VOCABULARY,
        "width": WIDTH,
        "chunk": CHUNK,
        "logits_gb_at_most": round(max(options.tokens) * VOCABULARY * 4 / 1e9, 2),
        "cases": cases,
    }
    OUT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
