"""From verdicts to tensors: a group of rollouts of one problem, and a packed batch of groups."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch

from ..problems.types import Problem
from ..rewards.types import Verdict
from ..rollouts.types import Rollout, StopReason


def raw_accuracy(rollout: Rollout, verdict: Verdict) -> float:
    """Correctness in {0, 1}; a response that was cut is wrong whatever it says."""
    return verdict.accuracy if rollout.stop_reason is StopReason.STOP else 0.0


@dataclass(frozen=True, slots=True)
class Group:
    """All gradable rollouts of one problem with their rewards and advantages.

    Example: two rollouts, one right: rewards (1.0, 0.0), advantages (0.5, -0.5).
    The four tuples run in parallel.
    """

    problem: Problem
    rollouts: tuple[Rollout, ...]
    verdicts: tuple[Verdict, ...]
    rewards: tuple[float, ...]
    advantages: tuple[float, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Raw correctness per rollout."""
        return tuple(map(raw_accuracy, self.rollouts, self.verdicts))


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences packed end to end without padding (T tokens, S sequences, R response tokens).

    input_ids_T        token ids, prompt then response, sequence after sequence
    position_ids_T     restarts at 0 with every sequence: this is what isolates them
    target_index_R     position t whose logits predict a response token (the token at t + 1)
    target_id_R        the response token there
    sequence_R         which of the S sequences each response token belongs to
    advantage_S        detached advantages
    engine_logprob_R   what the engine said when it sampled the token
    stale_R            bool, tokens that weights older than this iteration's sampled
    routes_TLk         uint8, the engine's experts; NO_ROUTE for a token without a route, as the
                       last of a sequence; None if no sequence has any
    pixel_values       f32 [P, 3, 14, 14], patches of the batch's distinct images, or None
    image_grid_hws     int64 [images, 2] in patches, or None
    image_index        int64 [placeholders]: the distinct image behind each image run in
                       input order; k samples of a group share one entry
    """

    input_ids_T: torch.Tensor
    position_ids_T: torch.Tensor
    target_index_R: torch.Tensor
    target_id_R: torch.Tensor
    sequence_R: torch.Tensor
    advantage_S: torch.Tensor
    engine_logprob_R: torch.Tensor
    stale_R: torch.Tensor
    routes_TLk: torch.Tensor | None
    pixel_values: torch.Tensor | None
    image_grid_hws: torch.Tensor | None
    image_index: torch.Tensor | None

    @property
    def sequences(self) -> int:
        return int(self.advantage_S.shape[0])

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            tensor = getattr(self, field.name)
            moved[field.name] = None if tensor is None else tensor.to(device)
        return Batch(**moved)
