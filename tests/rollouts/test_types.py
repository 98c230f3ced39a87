"""The rollout record."""

from __future__ import annotations

import pytest
from kvl.rollouts.types import Rollout, Segment, StopReason


def rollout(logprobs: tuple[float, ...], segments: tuple[Segment, ...] = ()) -> Rollout:
    return Rollout("p", 0, (1,), (5, 6), logprobs, segments, StopReason.STOP, "")


def test_every_token_has_a_logprob() -> None:
    with pytest.raises(ValueError, match="p#0: 1 log-probs for 2 tokens"):
        rollout((-0.5,))


def test_weight_versions_are_oldest_and_newest() -> None:
    segments = (Segment(0, 1, 3), Segment(1, 2, 4))
    assert rollout((-0.5, -0.5), segments).weight_versions == (3, 4)
