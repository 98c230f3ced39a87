"""What the learner measures in an iteration: named sums and maxima, so that packs and ranks add up.

`rl/loop/metrics.py` turns them into the metrics of an iteration; a new measure needs a line where
it is taken and a line there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from .batch import Batch
from .corrections import Corrections

# Tokens whose |log π − log μ| is so many times the tolerance of its mean are counted as far apart.
FAR = 4.0


@dataclass(frozen=True, slots=True)
class Measures:
    """Example: `Measures({"tokens": 3.0}, {"ell_max": 0.5}) + Measures({"tokens": 1.0})`."""

    sums: Mapping[str, float] = field(default_factory=dict)
    maxima: Mapping[str, float] = field(default_factory=dict)

    def __add__(self, other: Measures) -> Measures:
        sums, maxima = dict(self.sums), dict(self.maxima)
        for name, value in other.sums.items():
            sums[name] = sums.get(name, 0.0) + value
        for name, value in other.maxima.items():
            maxima[name] = max(maxima.get(name, value), value)
        return Measures(sums, maxima)

    def __getitem__(self, name: str) -> float:
        """A sum or a maximum; 0 for what nobody measured."""
        return self.sums.get(name, self.maxima.get(name, 0.0))

    def mean(self, name: str, count: str) -> float:
        """One sum over another, 0 where there is nothing to divide by."""
        return self[name] / max(self[count], 1)


def total(measures: Iterable[Measures]) -> Measures:
    """Of all packs, or all ranks."""
    return sum(measures, Measures())


def reference_measures(
    batch: Batch,
    reference_R: torch.Tensor,
    entropy_R: torch.Tensor,
    weights: Corrections,
    disagreement: tuple[int, int],
    far: float,
) -> Measures:
    """Of one pack after recomputing log π_i; d = log π_i − log μ.

    fresh_tokens, difference_*, far (|d| above `far`), kl_sum   of tokens that the iteration's own
                        weights sampled: under older weights the engine is meant to differ
    masked, stale       tokens left out of the loss, tokens sampled by older weights
    weight_*            of the sequences that hold stale tokens: their importance weights
    rerouted, routed    `disagreement`: (token, layer) pairs whose experts the learner would have
                        chosen otherwise than the engine, of those whose routes are known
    """
    difference_R = (reference_R - batch.engine_logprob_R)[~batch.stale_R]
    some = difference_R.numel() > 0
    aged_S = torch.zeros_like(weights.sequence_weight_S, dtype=torch.bool)
    aged_S[batch.sequence_R[batch.stale_R]] = True
    weight_S = weights.sequence_weight_S[aged_S]
    return Measures(
        {
            "response_tokens": batch.target_id_R.numel(),
            "fresh_tokens": difference_R.numel(),
            "difference_sum": float(difference_R.abs().sum()),
            "far": int((~(difference_R.abs() <= far)).sum()),
            "kl_sum": float((difference_R.exp() - 1 - difference_R).sum()),
            "entropy_sum": float(entropy_R.sum()),
            "masked": weights.masked,
            "stale": int(batch.stale_R.sum()),
            "aged_sequences": weight_S.numel(),
            "weight_sum": float(weight_S.sum()),
            "weight_square_sum": float(weight_S.square().sum()),
            "rerouted": disagreement[0],
            "routed": disagreement[1],
        },
        {"difference_max": float(difference_R.abs().max()) if some else 0.0},
    )
