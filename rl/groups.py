"""Verdicts → rewards → advantages of one problem's group of responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..configs.rl import RewardConfig
from ..problems.types import Problem
from ..rewards.length import length_rewards
from ..rewards.types import Verdict
from ..rollouts.types import Rollout, StopReason
from .types import Group, raw_accuracy

Baseline = Literal["mean", "leave_one_out"]


def shaped_rewards(
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    config: RewardConfig,
    iteration: int,
) -> tuple[float, ...]:
    """Raw correctness plus, from its start iteration on, the weighted length reward.

    Lengths count thinking and answer, never the prompt; the length reward branches on raw
    correctness (Kimi k1.5 §2.3.3).
    """
    rewards = list(map(raw_accuracy, rollouts, verdicts))
    correct = [reward == 1.0 for reward in rewards]
    if config.length_weight > 0 and iteration >= config.length_start_iteration:
        lengths = [len(rollout.response_token_ids) for rollout in rollouts]
        extra = length_rewards(lengths, correct, config.length_min_spread)
        rewards = [r + config.length_weight * e for r, e in zip(rewards, extra, strict=True)]
    return tuple(rewards)


def advantages(rewards: Sequence[float], baseline: Baseline) -> tuple[float, ...]:
    """r − r̄, with the group mean or the mean of the others; no division by a deviation.

    Leave-one-out is the mean baseline scaled by k/(k − 1). A group of one has advantage 0.
    """
    if len(rewards) < 2:
        return (0.0,) * len(rewards)
    mean = sum(rewards) / len(rewards)
    scale = len(rewards) / (len(rewards) - 1) if baseline == "leave_one_out" else 1.0
    return tuple(scale * (reward - mean) for reward in rewards)


def build_group(
    problem: Problem,
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    *,
    rewards: RewardConfig,
    baseline: Baseline,
    iteration: int,
) -> Group | None:
    """The group of the gradable rollouts, or None when none is left.

    Samples whose grading failed or whose generation was aborted leave the group before any
    statistic is taken: they are unknown, not wrong.
    """
    kept = [
        (rollout, verdict)
        for rollout, verdict in zip(rollouts, verdicts, strict=True)
        if verdict.gradable and rollout.stop_reason is not StopReason.ABORTED
    ]
    if not kept:
        return None
    kept_rollouts, kept_verdicts = zip(*kept, strict=True)
    shaped = shaped_rewards(kept_rollouts, kept_verdicts, rewards, iteration)
    return Group(problem, kept_rollouts, kept_verdicts, shaped, advantages(shaped, baseline))
