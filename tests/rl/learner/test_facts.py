"""The facts A1–A9 of the algorithm, on a bandit whose six actions are enumerated.

Every action is a sequence. An expectation is the probability-weighted sum of one call of the
objective per action, so the facts are tested on the objective itself and without sampling noise.
"""

from __future__ import annotations

import pytest
import torch
from bandit import (
    OTHER,
    POLICY,
    POLICY_LOGITS,
    REWARD,
    TAUS,
    closed_form,
    exact_centre,
    expected_loss,
    gradient,
    mean_baseline_fixed_point,
    minimise,
    mirror_descent,
    moved_logits,
    tokens,
    total_variation,
)
from kvl.rl.loop.groups import advantages


@pytest.mark.parametrize("tau", TAUS)
def test_a1_gradient_is_that_of_the_square_over_two_tau_and_minus_equation_3(tau: float) -> None:
    theta, reference, advantage, sequence = tokens()
    logprob = -theta.square()
    output = mirror_descent(logprob, reference, advantage, sequence, tau=tau, sequence_count=4)
    (actual,) = torch.autograd.grad(output.loss, theta, retain_graph=True)

    ell = torch.stack([(logprob - reference)[sequence == s].sum() for s in range(4)])
    torch.testing.assert_close(output.ell_S, ell.detach())
    square = (advantage - tau * ell).square().mean()
    (of_square,) = torch.autograd.grad(square, theta, retain_graph=True)
    torch.testing.assert_close(actual, of_square / (2 * tau), atol=1e-13, rtol=1e-12)
    torch.testing.assert_close(of_square, 2 * tau * actual, atol=1e-13, rtol=1e-12)

    ascent = torch.zeros_like(actual)
    for s in range(4):
        own = logprob[sequence == s].sum()
        ratio = own - reference[sequence == s].sum()
        (score,) = torch.autograd.grad(own, theta, retain_graph=True)
        (penalty,) = torch.autograd.grad(ratio.square(), theta, retain_graph=True)
        ascent += (score * advantage[s] - tau / 2 * penalty) / 4
    torch.testing.assert_close(actual, -ascent, atol=1e-13, rtol=1e-12)


def test_a1_advantage_and_reference_carry_no_gradient() -> None:
    theta, reference, advantage, sequence = tokens()
    reference.requires_grad_()
    advantage.requires_grad_()
    output = mirror_descent(theta, reference, advantage, sequence, tau=1.0, sequence_count=4)
    output.loss.backward()
    assert theta.grad is not None
    assert reference.grad is None
    assert advantage.grad is None
    assert not output.ell_S.requires_grad


def test_the_loss_is_a_sum_over_packs_whatever_the_order_of_tokens() -> None:
    theta, reference, advantage, sequence = tokens()
    whole = mirror_descent(theta, reference, advantage, sequence, tau=0.3, sequence_count=4)
    assert whole.loss.dtype == torch.float64
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    shuffled = mirror_descent(
        theta[order], reference[order], advantage, sequence[order], tau=0.3, sequence_count=4
    )
    torch.testing.assert_close(shuffled.loss, whole.loss)
    parts = [
        mirror_descent(
            theta[rows], reference[rows], advantage[own], sequence[rows] - own.start,
            tau=0.3, sequence_count=4,
        ).loss
        for own, rows in ((slice(0, 2), slice(0, 4)), (slice(2, 4), slice(4, 10)))
    ]  # fmt: skip
    torch.testing.assert_close(parts[0] + parts[1], whole.loss)


# A2


def test_a2_at_the_reference_tau_is_inert() -> None:
    advantage = REWARD - POLICY @ REWARD
    at_reference = [
        gradient(lambda z, t=tau: expected_loss(z, advantage=advantage, tau=t), POLICY_LOGITS)
        for tau in TAUS
    ]
    policy_gradient = gradient(lambda z: -(POLICY * advantage) @ z.log_softmax(0), POLICY_LOGITS)
    assert policy_gradient.abs().max() > 0.01
    for actual in at_reference:
        torch.testing.assert_close(actual, policy_gradient, atol=1e-14, rtol=1e-12)
    later = [
        gradient(lambda z, t=tau: expected_loss(z, advantage=advantage, tau=t), moved_logits())
        for tau in TAUS
    ]
    assert (later[0] - later[-1]).abs().max() > 0.01


# A3


@pytest.mark.parametrize("tau", TAUS)
def test_a3_with_the_exact_centre_the_minimum_is_the_closed_form(tau: float) -> None:
    advantage = REWARD - exact_centre(POLICY, REWARD, tau)
    found = minimise(lambda z: expected_loss(z, advantage=advantage, tau=tau), POLICY_LOGITS)
    assert total_variation(found, closed_form(POLICY, REWARD, tau)) < 1e-12
    assert total_variation(found, POLICY) > 0.05


# A4


@pytest.mark.parametrize("tau", TAUS)
def test_a4_with_the_mean_baseline_the_minimum_is_the_lambert_form(tau: float) -> None:
    advantage = REWARD - POLICY @ REWARD
    found = minimise(lambda z: expected_loss(z, advantage=advantage, tau=tau), POLICY_LOGITS)
    expected = mean_baseline_fixed_point(tau)
    assert expected.sum().item() == pytest.approx(1.0, abs=1e-12)
    assert total_variation(found, expected) < 1e-9


def test_a4_the_mean_baseline_is_more_conservative_and_exact_only_for_large_tau() -> None:
    distances = []
    for tau in TAUS:
        ours, best = mean_baseline_fixed_point(tau), closed_form(POLICY, REWARD, tau)
        distances.append(total_variation(ours, best))
        assert POLICY @ REWARD < ours @ REWARD < best @ REWARD
        moved = [float((POLICY * (POLICY / policy).log()).sum()) for policy in (ours, best)]
        assert moved[0] < moved[1]
    # The distances fall like the figures .26, .15, .0065, .0002 of the specification.
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.1
    assert distances[2] < 0.02
    assert distances[3] < 0.001


# A5


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_a5_a_moving_reference_anneals_to_greedy(tau: float) -> None:
    policy = POLICY
    for iteration in range(1, 5):
        advantage = REWARD - exact_centre(policy, REWARD, tau)
        policy = minimise(
            lambda z, held=policy, a=advantage: expected_loss(
                z, advantage=a, tau=tau, reference=held, weight=held
            ),
            policy.log(),
        )
        annealed = (POLICY.log() + iteration * REWARD / tau).softmax(0)
        assert total_variation(policy, annealed) < 1e-10
    assert policy[REWARD == 1.0].sum() > closed_form(POLICY, REWARD, tau)[REWARD == 1.0].sum()
    greedy = (POLICY.log() + 1e4 * REWARD / tau).softmax(0)
    assert greedy[REWARD == 1.0].sum().item() == pytest.approx(1.0)


# A6


@pytest.mark.parametrize("k", [2, 3, 8])
def test_a6_leave_one_out_is_the_mean_baseline_at_a_smaller_tau(k: int) -> None:
    rewards = [1.0, 0.0, 0.25, 1.0, 0.5, 0.0, 1.2, 0.1][:k]
    loo, mean = advantages(rewards, "leave_one_out"), advantages(rewards, "mean")
    for j, reward in enumerate(rewards):
        others = rewards[:j] + rewards[j + 1 :]
        assert loo[j] == pytest.approx(reward - sum(others) / len(others), abs=1e-12)
        assert mean[j] == pytest.approx(reward - sum(rewards) / k, abs=1e-12)
    assert sum(mean) == pytest.approx(0.0, abs=1e-12)
    assert sum(loo) == pytest.approx(0.0, abs=1e-12)

    generator = torch.Generator().manual_seed(k)
    reference = torch.randn(k, dtype=torch.float64, generator=generator)
    theta = torch.randn(k, dtype=torch.float64, generator=generator).requires_grad_()

    def slope(values: tuple[float, ...], tau: float) -> torch.Tensor:
        loss = mirror_descent(
            theta,
            reference,
            torch.tensor(values, dtype=torch.float64),
            torch.arange(k),
            tau=tau,
            sequence_count=k,
        ).loss
        return torch.autograd.grad(loss, theta)[0]

    tau = 0.3
    scaled = slope(loo, tau * k / (k - 1))
    torch.testing.assert_close(scaled, k / (k - 1) * slope(mean, tau), atol=1e-13, rtol=1e-12)


# A7


def test_a7_samples_of_another_policy_need_the_weight_pi_over_mu() -> None:
    tau, advantage = 0.5, REWARD - POLICY @ REWARD
    for logits in POLICY_LOGITS, moved_logits():
        on_policy = gradient(lambda z: expected_loss(z, advantage=advantage, tau=tau), logits)
        # Samples from μ, each term weighted by π_i/μ, its baseline taken with the same weights.
        ratio = POLICY / OTHER
        centre = (OTHER * ratio) @ REWARD
        weighted = gradient(
            lambda z, c=centre, w=OTHER * ratio: expected_loss(
                z, advantage=REWARD - c, tau=tau, weight=w
            ),
            logits,
        )
        torch.testing.assert_close(weighted, on_policy, atol=1e-14, rtol=1e-12)
        # Unweighted, the mean baseline no longer cancels.
        biased = gradient(
            lambda z: expected_loss(z, advantage=REWARD - OTHER @ REWARD, tau=tau, weight=OTHER),
            logits,
        )
        assert (biased - on_policy).abs().max() > 0.02


def test_a7_the_sampler_in_the_ratio_pulls_the_policy_to_the_sampler() -> None:
    tau, nothing = 0.5, torch.zeros(6, dtype=torch.float64)

    def right(z: torch.Tensor) -> torch.Tensor:
        return expected_loss(z, advantage=nothing, tau=tau, weight=OTHER)

    def wrong(z: torch.Tensor) -> torch.Tensor:
        return expected_loss(z, advantage=nothing, tau=tau, weight=OTHER, reference=OTHER)

    # With nothing to learn, π_i is where the policy should stay.
    assert gradient(right, POLICY_LOGITS).abs().max() < 1e-15
    assert gradient(wrong, POLICY_LOGITS).abs().max() > 0.01
    assert total_variation(minimise(wrong, POLICY_LOGITS), OTHER) < 1e-6
    assert total_variation(minimise(right, moved_logits()), POLICY) < 1e-6


# A8


@pytest.mark.parametrize("reward", [0.0, 1.0])
@pytest.mark.parametrize("baseline", ["mean", "leave_one_out"])
def test_a8_degenerate_groups_still_pull_back_mid_iteration(reward: float, baseline: str) -> None:
    assert baseline in ("mean", "leave_one_out")
    values = advantages([reward] * 6, baseline)
    assert values == (0.0,) * 6
    advantage, tau = torch.tensor(values, dtype=torch.float64), 0.2

    def loss(z: torch.Tensor) -> torch.Tensor:
        return expected_loss(z, advantage=advantage, tau=tau)

    assert gradient(loss, POLICY_LOGITS).abs().max() < 1e-16
    logits = moved_logits()
    slope = gradient(loss, logits)
    assert slope.abs().max() > 1e-3
    before = total_variation(logits.softmax(0), POLICY)
    assert total_variation((logits - 0.1 * slope).softmax(0), POLICY) < before


def test_a9_optimizer_state_carried_over_can_climb_the_new_loss() -> None:
    """A reference that has moved turns the gradient around; Adam's moments do not know it."""

    def first_step_after_the_boundary(reset: bool) -> float:
        logits = POLICY_LOGITS.clone().requires_grad_()
        optimizer = torch.optim.AdamW([logits], lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)

        def step(reward: torch.Tensor) -> float:
            reference = logits.detach().softmax(0)
            loss = expected_loss(
                logits,
                advantage=reward - reference @ reward,
                tau=1.0,
                reference=reference,
                weight=reference,
            )
            (slope,) = torch.autograd.grad(loss, logits)
            before = logits.detach().clone()
            logits.grad = slope
            optimizer.step()
            scheduler.step()
            return float((logits.detach() - before) @ slope)

        for _ in range(20):
            step(REWARD)
        position = scheduler.last_epoch
        if reset:
            optimizer.state.clear()
        moved = step(-REWARD)
        assert scheduler.last_epoch == position + 1
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.9**21)
        return moved

    assert first_step_after_the_boundary(reset=False) > 0
    assert first_step_after_the_boundary(reset=True) < 0
