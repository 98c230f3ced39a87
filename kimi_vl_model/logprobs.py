"""Log-probabilities of chosen tokens without the [tokens × vocabulary] logits.

Shapes: R rows (response tokens), D hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint


def _chunk_logprobs(
    hidden_RD: torch.Tensor,
    weight_VD: torch.Tensor,
    target_R: torch.Tensor,
    banned_ids: torch.Tensor | None,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    # The LM head runs in fp32: bf16 logits alone move log-probs by more than a sync may.
    with torch.autocast(hidden_RD.device.type, enabled=False):
        logits_RV = hidden_RD.float() @ weight_VD.float().T
    if temperature != 1.0:
        logits_RV = logits_RV / temperature
    if banned_ids is not None:
        logits_RV = logits_RV.index_fill(1, banned_ids, float("-inf"))
    normaliser_R = logits_RV.logsumexp(-1)
    logprob_R = logits_RV.gather(1, target_R[:, None])[:, 0] - normaliser_R
    with torch.no_grad():
        probability_RV = (logits_RV - normaliser_R[:, None]).exp()
        finite_RV = logits_RV.nan_to_num(neginf=0.0) if banned_ids is not None else logits_RV
        entropy_R = normaliser_R - (probability_RV * finite_RV).sum(-1)
    return logprob_R, entropy_R


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

    banned_ids (int64) have probability zero, as in the engine's sampler. The peak is one
    [chunk, V] block: with more rows than `chunk`, each block is recomputed in the backward pass.
    """
    if hidden_RD.shape[0] <= chunk:
        return _chunk_logprobs(hidden_RD, weight_VD, target_R, banned_ids, temperature)
    parts = [
        checkpoint(
            _chunk_logprobs,
            hidden_RD[start : start + chunk],
            weight_VD,
            target_R[start : start + chunk],
            banned_ids,
            temperature,
            use_reentrant=False,
        )
        for start in range(0, hidden_RD.shape[0], chunk)
    ]
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)
