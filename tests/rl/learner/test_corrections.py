"""Importance weights of samples that π_i did not draw."""

from __future__ import annotations

import pytest
import torch
from kvl.configs.rl import CorrectionConfig
from kvl.rl.learner.corrections import Corrections, corrections

# π_i/μ of five tokens; the first three are one sequence.
RATIO = torch.tensor([1.0, 3.0, 0.4, 1.0005, 1.0003])
SEQUENCE = torch.tensor([0, 0, 0, 1, 1])
FRESH = torch.zeros(5, dtype=torch.bool)


def corrected(stale: torch.Tensor = FRESH, **settings) -> Corrections:
    return corrections(
        RATIO.log() - 1.0,
        torch.full((5,), -1.0),
        SEQUENCE,
        stale,
        2,
        CorrectionConfig(**settings),
    )


def test_by_default_every_sample_weighs_the_same() -> None:
    result = corrected()
    assert result.token_weight_R.tolist() == [1.0] * 5
    assert result.sequence_weight_S.tolist() == [1.0, 1.0]
    assert result.masked == 0


def test_truncated_weights_are_the_ratios_up_to_the_limit() -> None:
    result = corrected(importance="truncated", truncation=2.0)
    torch.testing.assert_close(result.token_weight_R, torch.tensor([1.0, 2.0, 0.4, 1.0005, 1.0003]))
    # A sequence's weight is the product of its own ratios, cut once.
    torch.testing.assert_close(
        result.sequence_weight_S, torch.tensor([1.0 * 3.0 * 0.4, 1.0005 * 1.0003])
    )
    capped = corrected(importance="truncated", truncation=1.1)
    torch.testing.assert_close(capped.sequence_weight_S[0], torch.tensor(1.1))


def test_icepop_masks_tokens_and_weighs_none() -> None:
    result = corrected(importance="icepop", icepop_range=(0.5, 5.0))
    assert result.token_weight_R.tolist() == [1.0, 1.0, 0.0, 1.0, 1.0]
    assert result.keep_R.tolist() == [True, True, False, True, True]
    assert result.sequence_weight_S.tolist() == [1.0, 1.0]
    assert result.masked == 1


def test_a_sequence_whose_mean_ratio_leaves_the_range_is_masked_whole() -> None:
    result = corrected(sequence_mask=(0.999, 1.001))
    assert result.sequence_weight_S.tolist() == [0.0, 1.0]
    assert result.token_weight_R.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert result.masked == 3


@pytest.mark.parametrize(
    ("choice", "token_weights", "sequence_weight"),
    [("weight", [1.0, 2.0, 1.0], 2.0), ("mask", [1.0, 0.0, 1.0], 1.0)],
)
def test_tokens_of_older_weights_are_weighed_or_masked(
    choice: str, token_weights: list[float], sequence_weight: float
) -> None:
    stale = torch.tensor([False, True, False, False, False])
    result = corrected(stale, stale_tokens=choice, truncation=2.0)
    assert result.token_weight_R.tolist() == [*token_weights, 1.0, 1.0]
    torch.testing.assert_close(result.sequence_weight_S[0], torch.tensor(sequence_weight))


def test_a_sequence_of_masked_tokens_only_has_no_weight() -> None:
    stale = torch.tensor([True, True, True, False, False])
    assert corrected(stale, stale_tokens="mask").sequence_weight_S.tolist() == [0.0, 1.0]
