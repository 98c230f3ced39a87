"""What one iteration is judged by, from its groups and the learner's reports."""

from __future__ import annotations

from collections.abc import Sequence

from ...rewards.types import Outcome
from ...rollouts.types import StopReason
from ..learner.measures import ReferenceReport, UpdateReport
from ..types import Group
from .collect import Collected


def iteration_metrics(
    collected: Collected,
    reference: ReferenceReport,
    update: UpdateReport,
) -> dict[str, float]:
    """Raw accuracy apart from the shaped reward; lengths in tokens; shares in [0, 1].

    mismatch_*   |log π_i − log μ| over all tokens that the iteration's own weights sampled, and
                 KL(μ‖π_i) by its k3 estimator
    routing_disagreement   share of (token, layer) pairs that the learner alone would have sent to
                 other experts than the engine did; NaN where the engine returns no routes
    reward/*     means of the weighted parts of the reward; length_reward_in_all_wrong: share of
                 groups without a right answer in which the length reward still differs
    ell_*        ℓ before each optimizer step: mean, and largest absolute value
    truncated_share, repetition_share   responses cut by the token cap and by the repetition stop
    steps_skipped   optimizer steps left out, because their loss or gradient norm was not finite;
                 loss and grad_norm are means over the others
    masked_share, stale_share, clipped   tokens left out of the loss, tokens of older weights, and
                 how many tokens or sequences the objective gave no policy gradient
    """
    answered, groups = collected.answered, collected.groups
    verdicts = [verdict for a in answered for verdict in a.verdicts]
    rollouts = [rollout for a in answered for rollout in a.rollouts]
    lengths = [len(rollout.response_token_ids) for rollout in rollouts]
    rewards = [reward for group in groups for reward in group.rewards]
    right = [values for a in answered if (values := a.accuracies)]
    correct = sum(map(sum, right))
    graded = sum(map(len, right))
    tokens = max(reference.tokens, 1)
    response_tokens = max(reference.tokens + reference.stale, 1)
    return {
        "problems": len(answered),
        "samples": len(rollouts),
        "accuracy": correct / max(graded, 1),
        "reward_mean": sum(rewards) / max(len(rewards), 1),
        "groups_all_right": _share(right, lambda values: all(values)),
        "groups_all_wrong": _share(right, lambda values: not any(values)),
        "response_tokens_mean": sum(lengths) / max(len(lengths), 1),
        "response_tokens_max": max(lengths, default=0),
        "sampled_tokens": sum(lengths),
        "truncated_share": _share(rollouts, lambda r: r.stop_reason is StopReason.LENGTH),
        "repetition_share": _share(rollouts, lambda r: r.stop_reason is StopReason.REPETITION),
        "no_answer_share": _share(verdicts, lambda v: v.outcome is Outcome.NO_ANSWER),
        "invalid_share": _share(verdicts, lambda v: not v.gradable),
        "tokens_per_correct": sum(lengths) / correct if correct else float("nan"),
        "mismatch_mean": reference.difference_sum / tokens,
        "mismatch_max": reference.difference_max,
        "mismatch_kl": reference.kl_sum / tokens,
        "routing_disagreement": (
            reference.rerouted / reference.routed if reference.routed else float("nan")
        ),
        "length_reward_in_all_wrong": _share(groups, _is_paid_for_giving_up),
        **_part_means(groups),
        "entropy": reference.entropy_sum / response_tokens,
        "masked_share": reference.masked / response_tokens,
        "stale_share": reference.stale / response_tokens,
        "loss": update.loss,
        "ell_mean": update.ell_sum / max(update.sequences, 1),
        "ell_max": update.ell_max,
        "clipped": update.clipped,
        "ptx_loss": update.ptx_loss,
        "grad_norm": update.grad_norm,
        "steps_skipped": update.skipped,
        "learner_tokens": update.tokens,
        "refills": collected.refills,
        "waiting_groups": collected.waiting,
        "failures": len(collected.failures),
    }


def _is_paid_for_giving_up(group: Group) -> bool:
    """All wrong, yet some samples get more than others for their length."""
    lengths = {verdict.parts.get("length", 0.0) for verdict in group.verdicts}
    return not any(group.accuracies) and len(lengths) > 1


def _part_means(groups: Sequence[Group]) -> dict[str, float]:
    """The mean of every weighted reward part, as reward/NAME."""
    parts = [verdict.parts for group in groups for verdict in group.verdicts]
    names = {name: None for part in parts for name in part}
    return {f"reward/{n}": sum(part.get(n, 0.0) for part in parts) / len(parts) for n in names}


def _share(items: Sequence, condition) -> float:
    return sum(1 for item in items if condition(item)) / max(len(items), 1)
