"""Policy objectives as pure functions: log-probabilities in, a loss and its metrics out.

Shapes: R response tokens of S sequences, in any order and packing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """loss is a sum over this batch's sequences divided by the global sequence count, so that
    summing it over packs and ranks gives the minibatch loss. ell_S is ℓ, detached."""

    loss: torch.Tensor
    ell_S: torch.Tensor


def sum_by_sequence(values_R: torch.Tensor, sequence_R: torch.Tensor, count: int) -> torch.Tensor:
    """Sums of a per-token quantity over each of `count` sequences: [S]."""
    return values_R.new_zeros(count).index_add(0, sequence_R, values_R)


def mirror_descent(
    logprob_R: torch.Tensor,
    reference_logprob_R: torch.Tensor,
    advantage_S: torch.Tensor,
    sequence_R: torch.Tensor,
    *,
    tau: float,
    sequence_count: int,
) -> ObjectiveOutput:
    """Online policy mirror descent: mean_j [ −A_j·ℓ_j + (τ/2)·ℓ_j² ], ℓ_j = Σ_t log π_θ − log π_i.

    Its gradient is −Eq. 3 of Kimi k1.5 §2.3.2 (arXiv 2501.12599). Nothing is clipped and no
    ratio appears; τ acts from the second minibatch on, since ℓ = 0 at θ = θ_i.

    logprob_R            f32 [R], log π_θ of each response token, with gradient
    reference_logprob_R  f32 [R], log π_i recomputed by the learner; detached here
    advantage_S          f32 [S], r − r̄ of the group; detached here
    sequence_R           int64 [R], the sequence of each token
    sequence_count       sequences of the whole minibatch over all ranks
    """
    log_ratio_R = logprob_R - reference_logprob_R.detach()
    ell_S = sum_by_sequence(log_ratio_R, sequence_R, advantage_S.shape[0])
    loss_S = -advantage_S.detach() * ell_S + 0.5 * tau * ell_S.square()
    return ObjectiveOutput(loss_S.sum() / sequence_count, ell_S.detach())
