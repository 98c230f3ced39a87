"""The length reward against the unit values of the Kimi k1.5 formula."""

import pytest
from kvl.rewards.length import length_rewards


@pytest.mark.parametrize(
    ("lengths", "correct", "expected"),
    [
        ([100, 200, 300], [True, True, True], [0.5, 0.0, -0.5]),
        ([100, 200, 300], [False, False, False], [0.0, 0.0, -0.5]),
        ([100, 200, 300], [False, True, False], [0.0, 0.0, -0.5]),
        ([100, 100, 100], [True, False, True], [0.0, 0.0, 0.0]),
        ([100, 101, 100], [True, True, True], [0.5, -0.5, 0.5]),
        ([300, 100], [True, False], [-0.5, 0.0]),
        ([7], [True], [0.0]),
        ([], [], []),
    ],
)
def test_the_formula_gives_its_unit_values(lengths, correct, expected):
    assert length_rewards(lengths, correct) == pytest.approx(expected)


def test_a_spread_up_to_the_minimum_gives_no_reward():
    assert length_rewards([100, 101, 100], [True] * 3, min_spread=1) == [0.0, 0.0, 0.0]
    assert length_rewards([100, 102], [True] * 2, min_spread=1) == [0.5, -0.5]


def test_wrong_responses_never_gain_from_being_short():
    rewards = length_rewards(list(range(10, 60)), [False] * 50)
    assert max(rewards) == 0.0
    assert min(rewards) == -0.5


def test_unequal_sequences_are_an_error():
    with pytest.raises(ValueError, match="2 lengths but 1"):
        length_rewards([1, 2], [True])
