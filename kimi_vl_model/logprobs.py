"""Log-probabilities of chosen tokens without the [tokens × vocabulary] logits.

Shapes: R rows (response tokens), C rows of one chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def token_logprobs(
    hidden_RD: torch.Tensor,
    weight_VD: torch.Tensor,
    target_R: torch.Tensor,
    *,
    banned_ids: torch.Tensor | None = None,
    temperature: float = 1.0,
    chunk: int = 1024,
) -> tuple[torch.Tensor, torch.Tensor]:
    """log π(target) and entropy (detached), both f32 [R], of softmax(hidden · weightᵀ / T).

    banned_ids (int64) have probability zero, as in the engine's sampler. The peak is two blocks
    [chunk, V]: nothing of that size outlives its chunk, and the backward pass computes it again.
    """
    logprob_R, entropy_R = _ChunkedLogprobs.apply(  # pyright: ignore[reportGeneralTypeIssues]
        hidden_RD, weight_VD, target_R, banned_ids, temperature, chunk
    )
    return logprob_R, entropy_R


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_RD: torch.Tensor,
        weight_VD: torch.Tensor,
        target_R: torch.Tensor,
        banned_ids: torch.Tensor | None,
        temperature: float,
        chunk: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logprob_R = hidden_RD.new_empty(len(hidden_RD), dtype=torch.float32)
        entropy_R, normaliser_R = torch.empty_like(logprob_R), torch.empty_like(logprob_R)
        lowest = torch.finfo(torch.float32).min
        for rows, logits_CV in _chunks(
            hidden_RD, weight_VD.float(), banned_ids, temperature, chunk
        ):
            normaliser_C = logits_CV.logsumexp(-1)
            logits_CV.sub_(normaliser_C[:, None])
            logprob_R[rows] = logits_CV.gather(1, target_R[rows, None])[:, 0]
            # Clamped after exp: zero times the -inf of a banned id would be NaN.
            entropy_R[rows] = -logits_CV.exp().mul_(logits_CV.clamp_(min=lowest)).sum(-1)
            normaliser_R[rows] = normaliser_C
        ctx.save_for_backward(hidden_RD, weight_VD, target_R, banned_ids, normaliser_R)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.mark_non_differentiable(entropy_R)
        return logprob_R, entropy_R

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        hidden_RD, weight_VD, target_R, banned_ids, normaliser_R = ctx.saved_tensors
        needs_hidden, needs_weight, *_ = ctx.needs_input_grad
        scaled_R, weight_fp32_VD = gradients[0] / ctx.temperature, weight_VD.float()
        of_hidden_RD = torch.empty_like(hidden_RD) if needs_hidden else None
        of_weight_VD = torch.zeros_like(weight_fp32_VD) if needs_weight else None
        for rows, logits_CV in _chunks(
            hidden_RD, weight_fp32_VD, banned_ids, ctx.temperature, ctx.chunk
        ):
            # d log π / d logits = onehot − softmax
            scaled_C = scaled_R[rows, None]
            of_logits_CV = logits_CV.sub_(normaliser_R[rows, None]).exp_().mul_(-scaled_C)
            of_logits_CV.scatter_add_(1, target_R[rows, None], scaled_C)
            with torch.autocast(hidden_RD.device.type, enabled=False):
                if of_hidden_RD is not None:
                    of_hidden_RD[rows] = (of_logits_CV @ weight_fp32_VD).to(hidden_RD.dtype)
                if of_weight_VD is not None:
                    of_weight_VD.addmm_(of_logits_CV.T, hidden_RD[rows].float())
        if of_weight_VD is not None:
            of_weight_VD = of_weight_VD.to(weight_VD.dtype)
        return of_hidden_RD, of_weight_VD, None, None, None, None


def _chunks(
    hidden_RD: torch.Tensor,
    weight_VD: torch.Tensor,
    banned_ids: torch.Tensor | None,
    temperature: float,
    chunk: int,
) -> Iterator[tuple[slice, torch.Tensor]]:
    """(rows, their logits / T) chunk after chunk, each in the memory of the one before."""
    block_CV = weight_VD.new_empty(min(chunk, len(hidden_RD)), len(weight_VD))
    for start in range(0, len(hidden_RD), chunk):
        rows = slice(start, start + chunk)
        hidden_CD = hidden_RD[rows].float()
        # The LM head runs in fp32: bf16 logits alone move log-probs by more than a sync may.
        with torch.autocast(hidden_RD.device.type, enabled=False):
            logits_CV = torch.mm(hidden_CD, weight_VD.T, out=block_CV[: len(hidden_CD)])
        if temperature != 1.0:
            logits_CV.div_(temperature)
        if banned_ids is not None:
            logits_CV.index_fill_(1, banned_ids, float("-inf"))
        yield rows, logits_CV
