"""A bandit whose six actions are enumerated: an expectation is a sum of calls."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from kvl.configs.objectives import MirrorDescent
from kvl.rl.learner import objectives
from kvl.rl.learner.objectives import ObjectiveInputs, ObjectiveOutput
from kvl.rl.loop.groups import advantages

TAUS = (0.1, 0.3, 1.0, 3.0)
REWARD = torch.tensor([1.0, 0.0, 0.7, 0.2, 0.4, 1.0], dtype=torch.float64)
POLICY_LOGITS = torch.tensor([-0.5, 0.9, 0.1, 0.0, -1.0, -1.5], dtype=torch.float64)
OTHER_LOGITS = torch.tensor([0.4, -0.6, 0.8, -0.2, 0.0, 0.3], dtype=torch.float64)
POLICY, OTHER = POLICY_LOGITS.softmax(0), OTHER_LOGITS.softmax(0)


def mirror_descent(
    logprob: torch.Tensor,
    reference: torch.Tensor,
    advantage: torch.Tensor,
    sequence: torch.Tensor,
    *,
    tau: float,
    sequence_count: int,
) -> ObjectiveOutput:
    """The public objective without corrections."""
    inputs = ObjectiveInputs(
        logprob_R=logprob,
        reference_logprob_R=reference,
        advantage_S=advantage,
        sequence_R=sequence,
        token_weight_R=torch.ones_like(logprob),
        keep_R=torch.ones_like(logprob, dtype=torch.bool),
        sequence_weight_S=torch.ones_like(advantage),
        sequence_count=sequence_count,
        token_count=logprob.numel(),
    )
    return objectives.mirror_descent(inputs, MirrorDescent(tau=tau))


def sample_loss(
    logprob: torch.Tensor, reference: torch.Tensor, advantage: torch.Tensor, tau: float
) -> torch.Tensor:
    """The objective of one action alone."""
    return mirror_descent(
        logprob[None],
        reference[None],
        advantage[None],
        torch.zeros(1, dtype=torch.int64),
        tau=tau,
        sequence_count=1,
    ).loss


def expected_loss(
    logits: torch.Tensor,
    *,
    advantage: torch.Tensor,
    tau: float,
    reference: torch.Tensor = POLICY,
    weight: torch.Tensor = POLICY,
) -> torch.Tensor:
    """Σ_a weight_a · loss_a at the policy softmax(logits)."""
    logprobs = logits.log_softmax(0)
    losses = [
        sample_loss(logprobs[a], reference.log()[a], advantage[a], tau) for a in range(len(logits))
    ]
    return weight @ torch.stack(losses)


def gradient(loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> torch.Tensor:
    logits = at.clone().requires_grad_()
    return torch.autograd.grad(loss(logits), logits)[0]


def minimise(loss: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor) -> torch.Tensor:
    """The policy at a minimum: damped Newton in float64, down to a gradient of about 1e-15."""
    logits, damping = start.clone(), 1.0
    value, slope = loss(logits), gradient(loss, logits)
    eye = torch.eye(len(logits), dtype=logits.dtype)
    for _ in range(100):
        if slope.abs().max() < 1e-15:
            break
        curvature = torch.autograd.functional.hessian(loss, logits)
        assert isinstance(curvature, torch.Tensor)
        while torch.linalg.eigvalsh(curvature + damping * eye).min() <= 0:
            damping *= 4
        step = -torch.linalg.solve(curvature + damping * eye, slope)
        new_value, new_slope = loss(logits + step), gradient(loss, logits + step)
        # Close to the minimum the loss no longer resolves a step; its gradient still does.
        if new_value < value or new_slope.norm() < slope.norm():
            logits, value, slope = logits + step, new_value, new_slope
            damping /= 16
        else:
            damping *= 4
    assert slope.abs().max() < 1e-13
    return logits.softmax(0)


def total_variation(p: torch.Tensor, q: torch.Tensor) -> float:
    return float((p - q).abs().sum() / 2)


def closed_form(reference: torch.Tensor, reward: torch.Tensor, tau: float) -> torch.Tensor:
    """π_i · exp(r/τ) / Z."""
    return (reference.log() + reward / tau).softmax(0)


def exact_centre(reference: torch.Tensor, reward: torch.Tensor, tau: float) -> torch.Tensor:
    """τ log Z."""
    return tau * (reference.log() + reward / tau).logsumexp(0)


def lambert_w_of_exp(x: torch.Tensor) -> torch.Tensor:
    """W(eˣ), the solution of w + log w = x, by Newton on log w."""
    u = torch.where(x > 1, x.clamp(min=1).log(), x)
    for _ in range(30):
        u = u - (u.exp() + u - x) / (u.exp() + 1)
    return u.exp()


def mean_baseline_fixed_point(tau: float) -> torch.Tensor:
    """log(π/π_i) = Δ/τ − W((λ/τ)·exp(Δ/τ)), with λ found by bisection so that Σ π = 1."""
    delta = REWARD - POLICY @ REWARD

    def policy(log_lambda: float) -> torch.Tensor:
        exponent = log_lambda - math.log(tau) + delta / tau
        return POLICY * (delta / tau - lambert_w_of_exp(exponent)).exp()

    low, high = -60.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if policy(middle).sum() > 1 else (low, middle)
    return policy((low + high) / 2)


def moved_logits() -> torch.Tensor:
    """A policy a few optimizer steps away from π_i."""
    shift = torch.tensor([0.3, -0.4, 0.1, 0.5, -0.2, 0.0], dtype=torch.float64)
    return POLICY_LOGITS + shift


# A1


def tokens() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four sequences of 3, 1, 4 and 2 tokens: θ, token log-probs at θ_i, advantages, sequence."""
    generator = torch.Generator().manual_seed(0)
    sequence = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 3, 3])
    theta = torch.randn(10, dtype=torch.float64, generator=generator)
    reference = torch.randn(10, dtype=torch.float64, generator=generator)
    advantage = torch.tensor(advantages([1.0, 0.0, 1.0, 1.0], "mean"), dtype=torch.float64)
    return theta.requires_grad_(), reference, advantage, sequence
