"""What every policy objective must keep to, whoever wrote it.

Your own: `KVL_OBJECTIVE=package.module:function pytest tests/contracts/test_objectives.py`.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from kvl.configs.objectives import BUILTIN
from kvl.rl.learner.objectives import OBJECTIVES, Objective, ObjectiveInputs, find
from pydantic import BaseModel

NAMES = [*OBJECTIVES, *filter(None, [os.environ.get("KVL_OBJECTIVE")])]
LENGTHS = (3, 1, 5, 2)


@pytest.fixture(params=NAMES)
def objective(request: pytest.FixtureRequest) -> tuple[Objective, BaseModel]:
    function, config = find(request.param)
    return function, config()


def inputs(seed: int = 0, moved: float = 0.1) -> ObjectiveInputs:
    """Four sequences, π_θ `moved` away from π_i; nothing is masked."""
    random = torch.Generator().manual_seed(seed)
    sequence = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    count = len(sequence)
    reference = -torch.rand(count, generator=random, dtype=torch.float64) * 3
    drift = moved * torch.randn(count, generator=random, dtype=torch.float64)
    return ObjectiveInputs(
        logprob_R=(reference + drift).requires_grad_(),
        reference_logprob_R=reference,
        advantage_S=torch.tensor([0.5, -0.5, 1.0, -1.0], dtype=torch.float64),
        sequence_R=sequence,
        token_weight_R=torch.ones(count, dtype=torch.float64),
        keep_R=torch.ones(count, dtype=torch.bool),
        sequence_weight_S=torch.ones(len(LENGTHS), dtype=torch.float64),
        sequence_count=len(LENGTHS),
        token_count=count,
    )


def gradient(objective: tuple[Objective, BaseModel], given: ObjectiveInputs) -> torch.Tensor:
    function, config = objective
    return torch.autograd.grad(function(given, config).loss, given.logprob_R)[0]


def chosen(given: ObjectiveInputs, sequences: list[int]) -> tuple[ObjectiveInputs, torch.Tensor]:
    """Only those sequences, in that order, and where their tokens were."""
    where = torch.cat([(given.sequence_R == one).nonzero()[:, 0] for one in sequences])
    number = {old: new for new, old in enumerate(sequences)}
    renumbered = torch.tensor([number[int(old)] for old in given.sequence_R[where]])
    part = replace(
        given,
        logprob_R=given.logprob_R.detach()[where].requires_grad_(),
        reference_logprob_R=given.reference_logprob_R[where],
        advantage_S=given.advantage_S[sequences],
        sequence_R=renumbered,
        token_weight_R=given.token_weight_R[where],
        keep_R=given.keep_R[where],
        sequence_weight_S=given.sequence_weight_S[sequences],
    )
    return part, where


def test_the_loss_is_a_finite_scalar_and_ell_is_detached(objective) -> None:
    function, config = objective
    given = inputs()
    output = function(given, config)
    assert output.loss.shape == ()
    assert output.loss.isfinite()
    assert output.ell_S.shape == given.advantage_S.shape
    assert not output.ell_S.requires_grad
    expected = torch.zeros(4, dtype=torch.float64).index_add(
        0, given.sequence_R, (given.logprob_R - given.reference_logprob_R).detach()
    )
    torch.testing.assert_close(output.ell_S, expected)


def test_at_the_reference_the_gradient_pushes_along_the_advantage(objective) -> None:
    """−∂loss/∂log π has the sign of the token's advantage, and only the advantage's size counts
    within a sequence: no objective may prefer one token of a response at θ = θ_i."""
    given = inputs(moved=0.0)
    slope = -gradient(objective, given)
    assert (slope.sign() == given.advantage_S[given.sequence_R].sign()).all()
    for sequence in range(len(LENGTHS)):
        own = slope[given.sequence_R == sequence]
        torch.testing.assert_close(own, own[:1].expand_as(own))


def test_without_advantage_there_is_no_gradient_at_the_reference(objective) -> None:
    given = replace(inputs(moved=0.0), advantage_S=torch.zeros(4, dtype=torch.float64))
    assert (gradient(objective, given) == 0).all()


def test_advantages_references_and_weights_carry_no_gradient(objective) -> None:
    function, config = objective
    given = inputs()
    advantage = given.advantage_S.clone().requires_grad_()
    reference = given.reference_logprob_R.clone().requires_grad_()
    function(
        replace(given, advantage_S=advantage, reference_logprob_R=reference), config
    ).loss.backward()
    assert advantage.grad is None
    assert reference.grad is None


def test_a_masked_token_has_neither_gradient_nor_influence(objective) -> None:
    given = inputs()
    keep = torch.ones_like(given.keep_R)
    keep[[1, 5]] = False
    masked = replace(given, keep_R=keep, token_weight_R=keep.double())
    slope = gradient(objective, masked)
    assert (slope[~keep] == 0).all()
    assert (slope[keep] != 0).any()
    elsewhere = given.logprob_R.detach().clone()
    elsewhere[~keep] -= 7.0
    moved = replace(masked, logprob_R=elsewhere.requires_grad_())
    torch.testing.assert_close(gradient(objective, moved), slope)


def test_a_sequence_of_weight_zero_is_as_good_as_absent(objective) -> None:
    given = inputs()
    outside = given.sequence_R == 2
    weight = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    masked = replace(
        given,
        keep_R=~outside,
        token_weight_R=(~outside).double(),
        sequence_weight_S=weight,
    )
    without, where = chosen(given, [0, 1, 3])
    torch.testing.assert_close(gradient(objective, masked)[where], gradient(objective, without))
    assert (gradient(objective, masked)[outside] == 0).all()


def test_the_order_of_the_sequences_does_not_matter(objective) -> None:
    function, config = objective
    given = inputs()
    shuffled, where = chosen(given, [2, 0, 3, 1])
    torch.testing.assert_close(function(shuffled, config).loss, function(given, config).loss)
    torch.testing.assert_close(gradient(objective, shuffled), gradient(objective, given)[where])


@pytest.mark.parametrize("packs", [[[0], [1, 2, 3]], [[3, 1], [0, 2]], [[0], [1], [2], [3]]])
def test_packs_and_ranks_add_up_to_the_whole(objective, packs) -> None:
    """The counts are the minibatch's, so a sum over packs is normalised exactly once."""
    function, config = objective
    given = inputs()
    whole = gradient(objective, given)
    total = torch.zeros(())
    for sequences in packs:
        part, where = chosen(given, sequences)
        total = total + function(part, config).loss.detach()
        torch.testing.assert_close(gradient(objective, part), whole[where])
    torch.testing.assert_close(total, function(given, config).loss.detach())


def test_every_built_in_objective_has_a_config() -> None:
    assert OBJECTIVES.keys() == BUILTIN.keys()
