"""What the learner says about an iteration: sums, so that packs and ranks add up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ..types import Batch


@dataclass(frozen=True, slots=True)
class ReferenceReport:
    """Sums over response tokens after recomputing log π_i; d = log π_i − log μ.

    tokens, difference_*, kl_sum   of tokens that the iteration's own weights sampled
    masked, stale       tokens left out of the loss, tokens sampled by older weights
    rerouted, routed    (token, layer) pairs whose experts the learner would have chosen otherwise
                        than the engine, of those whose routes are known
    """

    tokens: int = 0
    difference_sum: float = 0.0
    difference_max: float = 0.0
    kl_sum: float = 0.0
    entropy_sum: float = 0.0
    masked: int = 0
    stale: int = 0
    rerouted: int = 0
    routed: int = 0


def report_of(
    batch: Batch,
    reference_R: torch.Tensor,
    entropy_R: torch.Tensor,
    masked: int,
    disagreement: tuple[int, int],
) -> ReferenceReport:
    """Of one pack; `disagreement` is `routing_disagreement`'s answer."""
    # Under older weights the engine is meant to differ.
    difference_R = (reference_R - batch.engine_logprob_R)[~batch.stale_R]
    some = difference_R.numel() > 0
    return ReferenceReport(
        tokens=difference_R.numel(),
        difference_sum=float(difference_R.abs().sum()),
        difference_max=float(difference_R.abs().max()) if some else 0.0,
        kl_sum=float((difference_R.exp() - 1 - difference_R).sum()),
        entropy_sum=float(entropy_R.sum()),
        masked=masked,
        stale=int(batch.stale_R.sum()),
        rerouted=disagreement[0],
        routed=disagreement[1],
    )


def total(reports: Iterable[ReferenceReport]) -> ReferenceReport:
    """Of all packs, or all ranks."""
    some = list(reports)
    return ReferenceReport(
        tokens=sum(report.tokens for report in some),
        difference_sum=sum(report.difference_sum for report in some),
        difference_max=max((report.difference_max for report in some), default=0.0),
        kl_sum=sum(report.kl_sum for report in some),
        entropy_sum=sum(report.entropy_sum for report in some),
        masked=sum(report.masked for report in some),
        stale=sum(report.stale for report in some),
        rerouted=sum(report.rerouted for report in some),
        routed=sum(report.routed for report in some),
    )


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """A rank's share of an iteration's optimizer steps. ℓ is taken before each step.

    `clipped` counts what the objective gave no policy gradient, tokens or sequences; `ptx_loss`
    is the mean token loss of the demonstrations. `skipped` steps were left out on all ranks,
    because the loss or the gradient norm was not finite; all but `tokens` is of the others.
    """

    sequences: int
    loss: float
    ell_sum: float
    ell_max: float
    grad_norm: float
    tokens: int
    clipped: int
    ptx_loss: float
    skipped: int = 0
