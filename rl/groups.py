"""Verdicts → rewards → advantages of one problem's group of responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ..configs.rl import ObjectiveConfig
from ..problems.types import Problem
from ..rewards.combine import Rewards
from ..rewards.types import RewardBatch, Sample, Verdict
from ..rollouts.types import Rollout, StopReason
from .evaluate import Answered
from .types import Group

Baseline = Literal["mean", "leave_one_out", "log_partition", "standardised"]


def rewarded(
    answered: Sequence[Answered], rewards: Rewards, iteration: int, mask_truncated: bool = False
) -> list[Answered]:
    """The same samples, their verdicts now with weighted reward parts.

    Only samples that count in their group's statistics are shown to the rewards: not those whose
    grading failed or whose generation was aborted. A sample a plugin failed on becomes invalid.
    """
    shown = [_gradable(one, mask_truncated) for one in answered]
    scored = rewards.score(
        [
            RewardBatch(tuple(_sample(one, index) for index in indices), iteration)
            for one, indices in zip(answered, shown, strict=True)
        ]
    )
    results = []
    for one, indices, verdicts in zip(answered, shown, scored, strict=True):
        replaced = dict(zip(indices, verdicts, strict=True))
        everything = (replaced.get(i, verdict) for i, verdict in enumerate(one.verdicts))
        results.append(replace(one, verdicts=tuple(everything)))
    return results


def _gradable(answered: Answered, mask_truncated: bool) -> list[int]:
    return [
        index
        for index, (rollout, verdict) in enumerate(
            zip(answered.rollouts, answered.verdicts, strict=True)
        )
        if counts(rollout, verdict, mask_truncated)
    ]


def _sample(answered: Answered, index: int) -> Sample:
    problem, rollout = answered.problem, answered.rollouts[index]
    return Sample(
        problem_id=problem.id,
        question=problem.question,
        answer=problem.gold,
        answer_type=problem.answer_type,
        options=problem.options,
        response=rollout.text,
        tokens=len(rollout.response_token_ids),
        truncated=rollout.stop_reason is not StopReason.STOP,
        verdict=answered.verdicts[index],
    )


def counts(rollout: Rollout, verdict: Verdict, mask_truncated: bool = False) -> bool:
    """Whether a sample is part of its group: graded, and its generation came to an end, which
    with `mask_truncated` the token cap is not. The repetition stop is one: what repeats itself is
    wrong, not unknown."""
    if mask_truncated and rollout.stop_reason is StopReason.LENGTH:
        return False
    return verdict.gradable and rollout.stop_reason is not StopReason.ABORTED


def advantages(rewards: Sequence[float], baseline: Baseline, tau: float = 1.0) -> tuple[float, ...]:
    """The rewards of a group measured from its baseline. A group of one has advantage 0.

    mean           r − r̄ (Kimi k1.5 §2.3.2)
    leave_one_out  r less the mean of the others: the mean baseline times k/(k − 1)
    log_partition  r − τ·log(mean exp(r/τ)), the sample estimate of τ log Z in the closed form
    standardised   (r − r̄)/σ, σ the deviation over the k rewards (GRPO); 0 where all are equal
    """
    count = len(rewards)
    if count < 2:
        return (0.0,) * count
    mean, scale = sum(rewards) / count, 1.0
    match baseline:
        case "leave_one_out":
            scale = count / (count - 1)
        case "log_partition":
            top = max(rewards)
            partition = sum(math.exp((reward - top) / tau) for reward in rewards) / count
            mean = top + tau * math.log(partition)
        case "standardised":
            deviation = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / count)
            scale = 1 / deviation if deviation > 1e-8 else 0.0
    return tuple(scale * (reward - mean) for reward in rewards)


def build_group(
    problem: Problem,
    rollouts: Sequence[Rollout],
    verdicts: Sequence[Verdict],
    *,
    baseline: Baseline,
    tau: float = 1.0,
    mask_truncated: bool = False,
) -> Group | None:
    """The group of the samples that count, or None when none is left.

    `verdicts` carry their reward parts. Samples whose grading failed or whose generation was
    aborted leave the group before any statistic is taken: they are unknown, not wrong.
    """
    kept = [
        (rollout, verdict)
        for rollout, verdict in zip(rollouts, verdicts, strict=True)
        if counts(rollout, verdict, mask_truncated)
    ]
    if not kept:
        return None
    kept_rollouts, kept_verdicts = zip(*kept, strict=True)
    total = tuple(verdict.reward for verdict in kept_verdicts)
    return Group(problem, kept_rollouts, kept_verdicts, total, advantages(total, baseline, tau))


def build_groups(
    answered: Sequence[Answered], objective: ObjectiveConfig, mask_truncated: bool = False
) -> list[Group]:
    """The groups of an iteration, measured from the baseline that the objective names.

    An objective of one's own that names none gets the group mean. Problems of which no sample
    counts have no group.
    """
    settings = objective.settings
    baseline: Baseline = getattr(settings, "baseline", "mean")
    tau: float = getattr(settings, "tau", 1.0)
    built = (
        build_group(
            one.problem,
            one.rollouts,
            one.verdicts,
            baseline=baseline,
            tau=tau,
            mask_truncated=mask_truncated,
        )
        for one in answered
    )
    return [group for group in built if group is not None]
