from __future__ import annotations

import math

import pytest
from kvl.configs.objectives import Baseline
from kvl.configs.rl import ObjectiveConfig
from kvl.evaluation.types import GradedResponse, Group
from kvl.problems.types import AnswerType, Problem
from kvl.rewards.combine import Rewards, RewardSpec
from kvl.rewards.types import Outcome, Verdict
from kvl.rl.loop.groups import advantages, measured_from_baseline, rewarded, with_advantages
from kvl.rollouts.types import Rollout, Segment, StopReason

PROBLEM = Problem("p", "What is 3 + 4?", (), "7", AnswerType.NUMBER)
ACCURACY = RewardSpec("accuracy")
PLAIN = Rewards([ACCURACY])
WITH_LENGTH = Rewards([ACCURACY, RewardSpec("length", 0.2, start=5)])
STOP, LENGTH, ABORTED = StopReason.STOP, StopReason.LENGTH, StopReason.ABORTED
RIGHT, WRONG, SILENT = Outcome.CORRECT, Outcome.INCORRECT, Outcome.NO_ANSWER
Sample = tuple[Outcome, StopReason, int]


def group_of(
    *samples: Sample,
    rewards: Rewards = PLAIN,
    baseline: Baseline = "mean",
    iteration: int = 0,
) -> Group:
    """The group of samples given as (outcome, stop reason, response length)."""
    (group,) = rewarded([answers(*samples)], rewards, iteration)
    return with_advantages(group, baseline)


def answers(*samples: Sample) -> Group:
    rollouts = [
        Rollout(
            problem_id="p",
            sample=number,
            prompt_token_ids=tuple(range(10 * (number + 1))),  # its length must not matter
            response_token_ids=(1,) * length,
            logprobs=(-1.0,) * length,
            segments=(Segment(0, length, 0),),
            stop_reason=reason,
            text="",
        )
        for number, (_, reason, length) in enumerate(samples)
    ]
    verdicts = [Verdict(outcome) for outcome, _, _ in samples]
    return Group(
        tuple(
            GradedResponse(PROBLEM, rollout, verdict)
            for rollout, verdict in zip(rollouts, verdicts, strict=True)
        )
    )


def rewards_of(group: Group) -> tuple[float, ...]:
    return tuple(one.reward for one in group.trained)


def advantages_of(group: Group) -> tuple[float | None, ...]:
    return tuple(one.advantage for one in group.trained)


def accuracies_of(group: Group) -> tuple[float, ...]:
    return tuple(one.accuracy for one in group.trained)


def samples_of(group: Group) -> list[int]:
    return [one.rollout.sample for one in group.trained]


def test_reward_is_correctness_and_advantage_is_centred_without_a_deviation() -> None:
    group = group_of((RIGHT, STOP, 5), (WRONG, STOP, 6), (SILENT, STOP, 7), (WRONG, STOP, 8))
    assert rewards_of(group) == (1.0, 0.0, 0.0, 0.0)
    assert advantages_of(group) == (0.75, -0.25, -0.25, -0.25)
    assert group.problem is PROBLEM


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.TIMEOUT])
def test_ungraded_samples_leave_before_any_statistic(outcome: Outcome) -> None:
    group = group_of((RIGHT, STOP, 5), (outcome, STOP, 900), (WRONG, STOP, 6))
    assert samples_of(group) == [0, 2]
    assert [one.verdict.outcome for one in group.trained] == [RIGHT, WRONG]
    assert advantages_of(group) == (0.5, -0.5)


def test_aborted_samples_leave_even_when_graded() -> None:
    group = group_of((RIGHT, STOP, 5), (RIGHT, ABORTED, 2), (WRONG, STOP, 6))
    assert samples_of(group) == [0, 2]
    assert advantages_of(group) == (0.5, -0.5)


def test_samples_that_left_have_no_part_in_the_length_reward() -> None:
    group = group_of(
        (Outcome.INVALID, STOP, 1),
        (RIGHT, STOP, 100),
        (RIGHT, ABORTED, 5000),
        (RIGHT, STOP, 200),
        rewards=WITH_LENGTH,
        iteration=5,
    )
    assert rewards_of(group) == pytest.approx((1.1, 0.9))


def test_a_group_of_which_nothing_counts_is_not_trained_on() -> None:
    group = group_of((Outcome.INVALID, STOP, 5), (RIGHT, ABORTED, 5))
    assert group.trained == ()
    assert len(group.responses) == 2


def test_truncated_responses_score_zero_whatever_they_say() -> None:
    group = group_of((RIGHT, LENGTH, 9), (RIGHT, STOP, 5), (WRONG, LENGTH, 9))
    assert rewards_of(group) == (0.0, 1.0, 0.0)
    assert accuracies_of(group) == (0.0, 1.0, 0.0)
    assert advantages_of(group) == pytest.approx((-1 / 3, 2 / 3, -1 / 3))


def test_truncated_responses_count_as_wrong_in_the_length_reward() -> None:
    # The shortest one is cut: as a correct answer it would gain half, as a wrong one nothing.
    group = group_of((RIGHT, LENGTH, 100), (RIGHT, STOP, 300), rewards=WITH_LENGTH, iteration=5)
    assert rewards_of(group) == pytest.approx((0.0, 0.9))


def test_length_reward_starts_at_its_iteration_and_stays_constant() -> None:
    samples: list[Sample] = [(RIGHT, STOP, 100), (RIGHT, STOP, 200), (RIGHT, STOP, 300)]
    for iteration in (0, 4):
        group = group_of(*samples, rewards=WITH_LENGTH, iteration=iteration)
        assert rewards_of(group) == (1.0, 1.0, 1.0)
    for iteration in (5, 6, 500):
        group = group_of(*samples, rewards=WITH_LENGTH, iteration=iteration)
        assert rewards_of(group) == pytest.approx((1.1, 1.0, 0.9))
        assert advantages_of(group) == pytest.approx((0.1, 0.0, -0.1))
        assert accuracies_of(group) == (1.0, 1.0, 1.0)


def test_length_reward_without_weight_is_off() -> None:
    group = group_of((RIGHT, STOP, 1), (RIGHT, STOP, 9), rewards=PLAIN, iteration=99)
    assert rewards_of(group) == (1.0, 1.0)


def test_length_reward_branches_on_raw_correctness() -> None:
    # A weight so large that the shaped reward of the right answer falls below the wrong ones'.
    heavy = Rewards([ACCURACY, RewardSpec("length", 4.0)])
    group = group_of((WRONG, STOP, 100), (RIGHT, STOP, 300), (WRONG, STOP, 200), rewards=heavy)
    assert rewards_of(group) == pytest.approx((0.0, 1.0 - 2.0, 0.0))
    all_wrong = group_of((WRONG, STOP, 100), (WRONG, STOP, 200), (SILENT, STOP, 300), rewards=heavy)
    assert rewards_of(all_wrong) == pytest.approx((0.0, 0.0, -2.0))


def test_length_reward_ignores_a_spread_below_the_minimum() -> None:
    config = Rewards([ACCURACY, RewardSpec("length", settings={"min_spread": 10})])
    near = group_of((RIGHT, STOP, 100), (RIGHT, STOP, 105), rewards=config)
    assert rewards_of(near) == (1.0, 1.0)
    far = group_of((RIGHT, STOP, 100), (RIGHT, STOP, 150), rewards=config)
    assert rewards_of(far) == (1.5, 0.5)


@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_a_group_of_one_has_no_advantage(baseline: Baseline) -> None:
    group = group_of((RIGHT, STOP, 5), (Outcome.TIMEOUT, STOP, 5), baseline=baseline)
    assert rewards_of(group) == (1.0,)
    assert advantages_of(group) == (0.0,)
    assert advantages([], baseline) == ()


def test_leave_one_out_subtracts_the_mean_of_the_others() -> None:
    group = (
        group_of(
            (RIGHT, STOP, 5), (WRONG, STOP, 5), (RIGHT, STOP, 5), (WRONG, STOP, 5),
            baseline="leave_one_out",
        )
    )  # fmt: skip
    assert advantages_of(group) == pytest.approx((2 / 3, -2 / 3, 2 / 3, -2 / 3))


def test_log_partition_is_the_sample_estimate_of_the_exact_centre() -> None:
    rewards, tau = [1.0, 0.0, 0.0, 0.5], 0.3
    centre = tau * math.log(sum(math.exp(reward / tau) for reward in rewards) / 4)
    assert advantages(rewards, "log_partition", tau) == pytest.approx([r - centre for r in rewards])
    # It neither overflows at a small τ nor differs from the mean at a large one.
    assert advantages([1.0, 0.0], "log_partition", 1e-4) == pytest.approx([0.0, -1.0], abs=1e-3)
    assert advantages([1.0, 0.0], "log_partition", 1e4) == pytest.approx([0.5, -0.5], abs=1e-3)


def test_standardised_advantages_have_unit_deviation_and_vanish_for_equal_rewards() -> None:
    values = advantages([1.0, 0.0, 0.0, 0.0], "standardised")
    assert sum(values) == pytest.approx(0)
    assert sum(value**2 for value in values) / 4 == pytest.approx(1)
    assert advantages([1.0] * 4, "standardised") == (0.0,) * 4


def test_a_truncated_sample_is_wrong_or_leaves_its_group() -> None:
    samples = ((RIGHT, STOP, 5), (WRONG, STOP, 6), (RIGHT, LENGTH, 7))
    assert accuracies_of(group_of(*samples)) == (1.0, 0.0, 0.0)
    (group,) = rewarded([answers(*samples)], PLAIN, 0, mask_truncated=True)
    (masked,) = measured_from_baseline([group], ObjectiveConfig(), mask_truncated=True)
    assert samples_of(masked) == [0, 1]
    assert advantages_of(masked) == (0.5, -0.5)


def test_a_sample_that_repeats_itself_is_wrong_and_never_leaves_its_group() -> None:
    samples = ((RIGHT, STOP, 5), (WRONG, STOP, 6), (RIGHT, StopReason.REPETITION, 7))
    (group,) = rewarded([answers(*samples)], PLAIN, 0, mask_truncated=True)
    (group,) = measured_from_baseline([group], ObjectiveConfig(), mask_truncated=True)
    assert accuracies_of(group) == rewards_of(group) == (1.0, 0.0, 0.0)


def test_a_group_is_degenerate_when_all_its_samples_are_right_or_all_wrong() -> None:
    assert group_of((RIGHT, STOP, 5), (RIGHT, STOP, 6)).degenerate
    assert group_of((WRONG, STOP, 5), (RIGHT, LENGTH, 6)).degenerate
    assert not group_of((RIGHT, STOP, 5), (WRONG, STOP, 6)).degenerate
