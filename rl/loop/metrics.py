"""What one iteration is judged by, from what it sampled and what the learner measured."""

from __future__ import annotations

from collections.abc import Sequence

from ...configs.rl import RLConfig
from ...evaluation.types import Group
from ...rewards.types import Outcome
from ...rollouts.types import StopReason
from ..learner.measures import Measures
from ..schedule import learning_rate, max_response_tokens, temperature
from .collect import Collected

UNKNOWN = float("nan")


def rollout_metrics(collected: Collected) -> dict[str, float]:
    """Raw accuracy apart from the shaped reward; lengths in tokens; shares in [0, 1].

    reward/*     means of the weighted parts of the reward; length_reward_in_all_wrong: share of
                 groups without a right answer in which the length reward still differs
    sampled_tokens   in this iteration, also by responses that still wait
    truncated_share, repetition_share   responses cut by the token cap and by the repetition stop
    trained_groups   0: nothing could be trained on, and no optimizer step was taken
    """
    groups = collected.groups
    responses = [one for group in groups for one in group.responses]
    trained = [one for group in collected.trained for one in group.trained]
    lengths = [one.tokens for one in responses]
    right = [values for group in groups if (values := group.accuracies)]
    correct = sum(map(sum, right))
    return {
        "problems": len(groups),
        "samples": len(responses),
        "accuracy": correct / max(sum(map(len, right)), 1),
        "reward_mean": sum(one.reward for one in trained) / max(len(trained), 1),
        "groups_all_right": _share(right, all),
        "groups_all_wrong": _share(right, lambda values: not any(values)),
        "response_tokens_mean": sum(lengths) / max(len(lengths), 1),
        "response_tokens_max": max(lengths, default=0),
        "sampled_tokens": collected.new_tokens,
        "truncated_share": _share(responses, lambda r: r.rollout.stop_reason is StopReason.LENGTH),
        "repetition_share": _share(
            responses, lambda r: r.rollout.stop_reason is StopReason.REPETITION
        ),
        "no_answer_share": _share(responses, lambda r: r.verdict.outcome is Outcome.NO_ANSWER),
        "invalid_share": _share(responses, lambda r: not r.verdict.gradable),
        "tokens_per_correct": sum(lengths) / correct if correct else UNKNOWN,
        "length_reward_in_all_wrong": _share(collected.trained, _is_paid_for_giving_up),
        **_part_means(collected.trained),
        "trained_groups": len(collected.trained),
        "refills": collected.refills,
        "waiting_groups": collected.waiting,
        "failures": len(collected.failures),
    }


def learner_metrics(reference: Measures, update: Measures) -> dict[str, float]:
    """Sums of `rl/learner/measures.py` as means and shares.

    mismatch_*   |log π_i − log μ| over all tokens that the iteration's own weights sampled, and
                 KL(μ‖π_i) by its k3 estimator
    routing_disagreement   share of (token, layer) pairs that the learner alone would have sent to
                 other experts than the engine did; NaN where the engine returns no routes
    ell_*        ℓ before each optimizer step: mean, and largest absolute value
    masked_share, stale_share, clipped   tokens left out of the loss, tokens of older weights, and
                 how many tokens or sequences the objective gave no policy gradient
    stale_weight_mean, stale_effective_share   of sequences with stale tokens: their mean importance
                 weight, and how many equally weighted ones they are worth, (Σw)²/(n·Σw²); NaN where
                 there is none
    optimizer_steps   0 where there was nothing to train on; loss and grad_norm are means over them
    steps_skipped     steps left out, because their loss or gradient norm was not finite
    """
    steps = update["steps"] or UNKNOWN
    aged = reference["aged_sequences"]
    squares = aged * reference["weight_square_sum"]
    return {
        "mismatch_mean": reference.mean("difference_sum", "fresh_tokens"),
        "mismatch_max": reference["difference_max"],
        "mismatch_kl": reference.mean("kl_sum", "fresh_tokens"),
        "routing_disagreement": (
            reference["rerouted"] / reference["routed"] if reference["routed"] else UNKNOWN
        ),
        "entropy": reference.mean("entropy_sum", "response_tokens"),
        "masked_share": reference.mean("masked", "response_tokens"),
        "stale_share": reference.mean("stale", "response_tokens"),
        "stale_weight_mean": reference["weight_sum"] / aged if aged else UNKNOWN,
        "stale_effective_share": reference["weight_sum"] ** 2 / squares if squares else UNKNOWN,
        "loss": update["loss"] / steps,
        "ell_mean": update.mean("ell_sum", "sequences"),
        "ell_max": update["ell_max"],
        "clipped": update["clipped"],
        "ptx_loss": update["ptx_loss"] / steps,
        "grad_norm": update["grad_norm"] / steps,
        "learner_tokens": update["learner_tokens"],
        "optimizer_steps": update["steps"],
        "steps_skipped": update["steps_skipped"],
    }


def schedule_metrics(config: RLConfig, iteration: int) -> dict[str, float]:
    """The settings that change over the iterations."""
    return {
        "temperature": temperature(config, iteration),
        "response_cap": max_response_tokens(config, iteration),
        "learning_rate": learning_rate(config, iteration),
    }


def _is_paid_for_giving_up(group: Group) -> bool:
    """All wrong, yet some samples get more than others for their length."""
    lengths = {one.verdict.parts.get("length", 0.0) for one in group.trained}
    return not any(one.accuracy for one in group.trained) and len(lengths) > 1


def _part_means(groups: Sequence[Group]) -> dict[str, float]:
    """The mean of every weighted reward part, as reward/NAME."""
    parts = [one.verdict.parts for group in groups for one in group.trained]
    names = {name: None for part in parts for name in part}
    return {f"reward/{n}": sum(part.get(n, 0.0) for part in parts) / len(parts) for n in names}


def _share(items: Sequence, condition) -> float:
    return sum(1 for item in items if condition(item)) / max(len(items), 1)
