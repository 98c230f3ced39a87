"""Policy objectives as pure functions: log-probabilities in, a loss and its metrics out.

All have one signature, `objective(inputs, config)`. Shapes: R response tokens of S sequences, in
any order and packing. Each loss is a sum over what it is given, divided once by a global count, so
that summing it over packs and ranks gives the loss of the minibatch. `docs/algorithms.md` compares
them and says where they depart from their papers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

import torch
from pydantic import BaseModel

from ...configs import objectives as settings
from ...configs.errors import ConfigError
from ...configs.rl import ObjectiveConfig


@dataclass(frozen=True, slots=True)
class ObjectiveInputs:
    """What an objective may look at.

    logprob_R            f32 [R], log π_θ of each response token, the only input with a gradient
    reference_logprob_R  f32 [R], log π_i recomputed by the learner
    advantage_S          f32 [S], from the group's rewards and the objective's baseline
    sequence_R           int64 [R], the sequence of each token
    token_weight_R       f32 [R], corrections for a token-level term; 0 where masked
    keep_R               bool [R], tokens that count in a sequence-level term
    sequence_weight_S    f32 [S], corrections for a sequence-level term; 0 where masked
    sequence_count       sequences of the whole minibatch over all ranks
    token_count          response tokens of the whole minibatch over all ranks
    """

    logprob_R: torch.Tensor
    reference_logprob_R: torch.Tensor
    advantage_S: torch.Tensor
    sequence_R: torch.Tensor
    token_weight_R: torch.Tensor
    keep_R: torch.Tensor
    sequence_weight_S: torch.Tensor
    sequence_count: int
    token_count: int

    @property
    def log_ratio_R(self) -> torch.Tensor:
        """log π_θ − log π_i."""
        return self.logprob_R - self.reference_logprob_R.detach()

    @property
    def advantage_R(self) -> torch.Tensor:
        """Each token's sequence's advantage, detached."""
        return self.advantage_S.detach()[self.sequence_R]

    def by_sequence(self, values_R: torch.Tensor) -> torch.Tensor:
        """Sums over the kept tokens of each sequence: [S]."""
        kept_R = torch.where(self.keep_R, values_R, 0.0)
        return kept_R.new_zeros(self.advantage_S.shape).index_add(0, self.sequence_R, kept_R)

    def lengths(self) -> torch.Tensor:
        """Kept tokens of each sequence, at least 1: f32 [S]."""
        return self.by_sequence(torch.ones_like(self.logprob_R.detach())).clamp(min=1)


@dataclass(frozen=True, slots=True)
class ObjectiveOutput:
    """loss: scalar; ell_S: ℓ = Σ_t log π_θ − log π_i of each sequence, detached; clipped: how many
    tokens (or, in a sequence-level objective, sequences) have lost their policy gradient."""

    loss: torch.Tensor
    ell_S: torch.Tensor
    clipped: int = 0


Objective = Callable[[ObjectiveInputs, Any], ObjectiveOutput]


def mirror_descent(inputs: ObjectiveInputs, config: settings.MirrorDescent) -> ObjectiveOutput:
    """Online policy mirror descent: mean_j [ −A_j·ℓ_j + (τ/2)·ℓ_j² ], ℓ_j = Σ_t log π_θ − log π_i.

    Its gradient is −Eq. 3 of Kimi k1.5 §2.3.2 (arXiv 2501.12599). Nothing is clipped and no
    ratio appears; τ acts from the second minibatch on, since ℓ = 0 at θ = θ_i.
    """
    ell_S = inputs.by_sequence(inputs.log_ratio_R)
    loss_S = -inputs.advantage_S.detach() * ell_S + 0.5 * config.tau * ell_S.square()
    loss = (inputs.sequence_weight_S * loss_S).sum() / inputs.sequence_count
    return ObjectiveOutput(loss, ell_S.detach())


def mirror_descent_token(
    inputs: ObjectiveInputs, config: settings.MirrorDescentToken
) -> ObjectiveOutput:
    """Per token −ratio·A + τ·(log ratio)², averaged over tokens (Kimi K2.5, arXiv 2602.02276).

    A token whose log-ratio leaves [−α, β] gets no policy gradient whatever the sign of A; the
    square still pulls it back.
    """
    log_ratio_R = inputs.log_ratio_R
    inside_R = (log_ratio_R >= -config.alpha) & (log_ratio_R <= config.beta)
    policy_R = torch.where(inside_R, log_ratio_R, 0.0).exp() * inside_R
    loss_R = -policy_R * inputs.advantage_R + config.tau * log_ratio_R.square()
    return _token_mean(inputs, loss_R, ~inside_R)


def grpo(inputs: ObjectiveInputs, config: settings.ClippedTokens) -> ObjectiveOutput:
    """Mean over sequences of the mean over tokens of the clipped surrogate (arXiv 2402.03300)."""
    loss_R, clipped_R = _clipped_surrogate(inputs, config.clip_low, config.clip_high)
    weighted_R = inputs.token_weight_R * loss_R / inputs.lengths()[inputs.sequence_R]
    return ObjectiveOutput(weighted_R.sum() / inputs.sequence_count, _ell(inputs), int(clipped_R))


def dr_grpo(inputs: ObjectiveInputs, config: settings.ClippedTokenSums) -> ObjectiveOutput:
    """The clipped surrogate summed over a response, divided by a constant (arXiv 2503.20783)."""
    loss_R, clipped_R = _clipped_surrogate(inputs, config.clip_low, config.clip_high)
    total = (inputs.token_weight_R * loss_R).sum() / config.token_budget
    return ObjectiveOutput(total / inputs.sequence_count, _ell(inputs), int(clipped_R))


def gspo(inputs: ObjectiveInputs, config: settings.ClippedSequences) -> ObjectiveOutput:
    """Clipped surrogate of the geometric mean ratio of each sequence (arXiv 2507.18071)."""
    ell_S = inputs.by_sequence(inputs.log_ratio_R)
    loss_S, clipped_S = _surrogate(
        (ell_S / inputs.lengths()).exp(), inputs.advantage_S, config.clip_low, config.clip_high
    )
    loss = (inputs.sequence_weight_S * loss_S).sum() / inputs.sequence_count
    return ObjectiveOutput(loss, ell_S.detach(), int(clipped_S.sum()))


def cispo(inputs: ObjectiveInputs, config: settings.ClippedWeights) -> ObjectiveOutput:
    """−sg(clip(ratio))·A·log π averaged over tokens: every token keeps a gradient (2506.13585)."""
    ratio_R = inputs.log_ratio_R.detach().exp()
    weight_R = ratio_R.clamp(1 - config.clip_low, 1 + config.clip_high)
    loss_R = -weight_R * inputs.advantage_R * inputs.logprob_R
    return _token_mean(inputs, loss_R, weight_R != ratio_R)


OBJECTIVES: dict[str, Objective] = {
    "mirror_descent": mirror_descent,
    "mirror_descent_token": mirror_descent_token,
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "gspo": gspo,
    "cispo": cispo,
}


def find(name: str) -> tuple[Objective, type[BaseModel]]:
    """The objective of that name, or of an import path `package.module:function`, and its config.

    A function of your own says what its config is by the annotation of its second parameter,
    `config`. Raises ConfigError for a name that leads to no objective.
    """
    if name in OBJECTIVES:
        return OBJECTIVES[name], settings.BUILTIN[name]
    if ":" not in name:
        raise ConfigError(
            f"no objective {name!r}: known are {', '.join(OBJECTIVES)}; your own is written as "
            "package.module:function"
        )
    module, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
        config = get_type_hints(function)["config"]
    except (ImportError, AttributeError, KeyError, TypeError, NameError) as error:
        raise ConfigError(
            f"objective {name}: {error}; it must name a function (inputs: ObjectiveInputs, "
            "config: YourConfig) -> ObjectiveOutput"
        ) from error
    return function, config


def settings_of(config: ObjectiveConfig) -> Any:
    """The objective's own config."""
    return find(config.name)[1].model_validate(config.settings)


def _ell(inputs: ObjectiveInputs) -> torch.Tensor:
    return inputs.by_sequence(inputs.log_ratio_R.detach())


def _token_mean(
    inputs: ObjectiveInputs, loss_R: torch.Tensor, clipped_R: torch.Tensor
) -> ObjectiveOutput:
    loss = (inputs.token_weight_R * loss_R).sum() / inputs.token_count
    return ObjectiveOutput(loss, _ell(inputs), int(clipped_R.sum()))


def _surrogate(
    ratio: torch.Tensor, advantage: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """−min(ratio·A, clip(ratio)·A), and where the clip took the gradient away."""
    advantage = advantage.detach()
    free, bounded = ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage
    return -torch.minimum(free, bounded), bounded < free


def _clipped_surrogate(
    inputs: ObjectiveInputs, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    loss_R, clipped_R = _surrogate(inputs.log_ratio_R.exp(), inputs.advantage_R, low, high)
    return loss_R, clipped_R.sum()
