"""Weights for samples that π_i did not draw: another kernel's rounding, older weights.

μ is what the engine sampled from, π_i what the learner recomputed with the iteration's weights.
Everything here is detached and is a pure function of log-probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...configs.rl import CorrectionConfig


@dataclass(frozen=True, slots=True)
class Corrections:
    """Factors of a batch of R response tokens of S sequences.

    token_weight_R     f32, for terms that are sums over tokens; 0 where the token is masked
    keep_R             bool, tokens that count at all
    sequence_weight_S  f32, for terms of a whole sequence; 0 where the sequence is masked
    """

    token_weight_R: torch.Tensor
    keep_R: torch.Tensor
    sequence_weight_S: torch.Tensor

    @property
    def masked(self) -> int:
        """How many tokens do not count."""
        return int((~self.keep_R).sum())


def corrections(
    reference_logprob_R: torch.Tensor,
    engine_logprob_R: torch.Tensor,
    sequence_R: torch.Tensor,
    stale_R: torch.Tensor,
    sequences: int,
    config: CorrectionConfig,
) -> Corrections:
    """Importance weights π_i/μ as the config asks for them (algorithm.md §4).

    truncated  token weights min(π_i/μ, C), sequence weights min(Π_t π_i/μ, C)   (TIS)
    icepop     tokens whose π_i/μ leaves [low, high] are masked, the others weigh 1
    sequence_mask  a sequence whose geometric mean of π_i/μ leaves [low, high] is masked

    All three correct the engine's rounding and look at fresh tokens only. stale_R marks tokens
    drawn with the weights of an earlier iteration, for which π_i/μ is more than rounding: they are
    weighed as under `truncated`, or masked, whatever the fresh ones get. A sequence's weight is a
    product over its tokens: with thousands of stale ones it is near 0 or at its limit.
    """
    log_weight_R = (reference_logprob_R - engine_logprob_R).detach()
    weighed_R = torch.zeros_like(stale_R)
    keep_R = torch.ones_like(stale_R)
    if config.importance == "truncated":
        weighed_R = torch.ones_like(stale_R)
    elif config.importance == "icepop":
        low, high = config.icepop_range
        ratio_R = log_weight_R.exp()
        keep_R = stale_R | ((ratio_R >= low) & (ratio_R <= high))
    if config.stale_tokens == "mask":
        keep_R = keep_R & ~stale_R
        weighed_R = weighed_R & ~stale_R
    else:
        weighed_R = weighed_R | stale_R

    def by_sequence(values_R: torch.Tensor) -> torch.Tensor:
        return values_R.new_zeros(sequences).index_add(0, sequence_R, values_R)

    keep_S = by_sequence(keep_R.float()) > 0
    if config.sequence_mask is not None:
        low, high = config.sequence_mask
        fresh_R = (~stale_R).float()
        mean_S = by_sequence(log_weight_R * fresh_R) / by_sequence(fresh_R).clamp(min=1)
        keep_S = keep_S & (mean_S.exp() >= low) & (mean_S.exp() <= high)
        keep_R = keep_R & keep_S[sequence_R]
    applied_R = torch.where(weighed_R & keep_R, log_weight_R, 0.0)
    limit = config.truncation
    return Corrections(
        token_weight_R=applied_R.exp().clamp(max=limit) * keep_R,
        keep_R=keep_R,
        sequence_weight_S=by_sequence(applied_R).exp().clamp(max=limit) * keep_S,
    )
