"""Verdicts → rewards → advantages of one problem's group of responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ...configs.objectives import Baseline
from ...configs.rl import ObjectiveConfig
from ...evaluation.types import GradedResponse, Group
from ...rewards.combine import Rewards
from ...rewards.types import RewardBatch, Sample
from ...rollouts.types import StopReason
from ..learner.objectives import settings_of


def rewarded(
    groups: Sequence[Group], rewards: Rewards, iteration: int, mask_truncated: bool = False
) -> list[Group]:
    """The same responses, their verdicts now with weighted reward parts.

    Only responses that count in their group's statistics are shown to the rewards: not those whose
    grading failed or whose generation was aborted. One that a plug-in failed on becomes invalid.
    """
    shown = [
        [index for index, one in enumerate(group.responses) if counts(one, mask_truncated)]
        for group in groups
    ]
    scored = rewards.score(
        [
            RewardBatch(tuple(_sample(group.responses[index]) for index in indices), iteration)
            for group, indices in zip(groups, shown, strict=True)
        ]
    )
    results = []
    for group, indices, verdicts in zip(groups, shown, scored, strict=True):
        responses = list(group.responses)
        for index, verdict in zip(indices, verdicts, strict=True):
            responses[index] = replace(responses[index], verdict=verdict)
        results.append(Group(tuple(responses)))
    return results


def counts(response: GradedResponse, mask_truncated: bool = False) -> bool:
    """Whether a response is part of its group's statistics: graded, and its generation came to an
    end, which with `mask_truncated` the token cap is not. The repetition stop is one: what repeats
    itself is wrong, not unknown."""
    reason = response.rollout.stop_reason
    if mask_truncated and reason is StopReason.LENGTH:
        return False
    return response.verdict.gradable and reason is not StopReason.ABORTED


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


def with_advantages(
    group: Group, baseline: Baseline, tau: float = 1.0, mask_truncated: bool = False
) -> Group:
    """The group with the advantages of the responses that count.

    The others leave before any statistic is taken: they are unknown, not wrong.
    """
    counted = [one for one in group.responses if counts(one, mask_truncated)]
    values = iter(advantages([one.reward for one in counted], baseline, tau))
    return Group(
        tuple(
            replace(one, advantage=next(values) if counts(one, mask_truncated) else None)
            for one in group.responses
        )
    )


def measured_from_baseline(
    groups: Sequence[Group], objective: ObjectiveConfig, mask_truncated: bool = False
) -> list[Group]:
    """`with_advantages` by the baseline that the objective names; one of your own that names none
    gets the group mean."""
    settings = settings_of(objective)
    baseline: Baseline = getattr(settings, "baseline", "mean")
    tau: float = getattr(settings, "tau", 1.0)
    return [with_advantages(group, baseline, tau, mask_truncated) for group in groups]


def _sample(response: GradedResponse) -> Sample:
    problem, rollout = response.problem, response.rollout
    return Sample(
        problem_id=problem.id,
        question=problem.question,
        answer=problem.gold,
        answer_type=problem.answer_type,
        options=problem.options,
        response=rollout.text,
        tokens=response.tokens,
        truncated=rollout.stop_reason is not StopReason.STOP,
        verdict=response.verdict,
    )
