"""Settings of the policy objectives; the functions are in `rl/learner/objectives.py`.

They live apart from the functions because a config is checked before torch is imported.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from .base import StrictModel

Baseline = Literal["mean", "leave_one_out", "log_partition", "standardised"]


class MirrorDescent(StrictModel):
    """Sequence form (Kimi k1.5 §2.3.2, Kimi-VL §2.4). `tau` weighs ℓ², a square of sums over the
    whole response: the token form's tau means something else by a factor of about its length."""

    tau: PositiveFloat = 0.01
    baseline: Literal["mean", "leave_one_out", "log_partition"] = Field(
        default="mean", description="centre of the rewards of a group"
    )


class MirrorDescentToken(StrictModel):
    """Token form (Kimi K2.5): a token whose log-ratio leaves [−alpha, beta] has no gradient."""

    tau: PositiveFloat = 1e-3
    alpha: PositiveFloat = 0.5
    beta: PositiveFloat = 0.5
    baseline: Literal["mean", "leave_one_out"] = "mean"


class ClippedTokens(StrictModel):
    """GRPO (arXiv 2402.03300): rewards standardised in their group, clipped token ratios."""

    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2
    baseline: Literal["standardised"] = "standardised"


class ClippedTokenSums(StrictModel):
    """Dr. GRPO (arXiv 2503.20783): neither the deviation nor the response's length divides."""

    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2
    token_budget: PositiveInt = Field(
        default=1024, description="the constant that divides a response's sum over tokens"
    )
    baseline: Literal["mean"] = "mean"


class ClippedSequences(StrictModel):
    """GSPO (arXiv 2507.18071): the geometric mean ratio of a sequence, clipped."""

    clip_low: PositiveFloat = 3e-4
    clip_high: PositiveFloat = 4e-4
    baseline: Literal["standardised"] = "standardised"


class ClippedWeights(StrictModel):
    """CISPO (arXiv 2506.13585): REINFORCE with a clipped, detached ratio as weight."""

    clip_low: NonNegativeFloat = Field(default=1.0, description="1 leaves the ratio free below")
    clip_high: PositiveFloat = 0.28
    baseline: Literal["standardised"] = "standardised"


BUILTIN: dict[str, type[StrictModel]] = {
    "mirror_descent": MirrorDescent,
    "mirror_descent_token": MirrorDescentToken,
    "grpo": ClippedTokens,
    "dr_grpo": ClippedTokenSums,
    "gspo": ClippedSequences,
    "cispo": ClippedWeights,
}
