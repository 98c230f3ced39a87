"""The length reward: shorter correct answers gain, longer ones lose [Kimi k1.5 §2.3.3]."""

from __future__ import annotations

from collections.abc import Sequence


def length_rewards(
    lengths: Sequence[int], correct: Sequence[bool], min_spread: int = 0
) -> list[float]:
    """The length reward of each response in one problem's group, not yet weighted.

    λ_i = 0.5 - (len_i - min)/(max - min); correct responses get λ_i, wrong ones min(0, λ_i).
    Lengths count thinking and answer tokens, not the prompt. `correct` is raw correctness, never
    a shaped reward. A spread of `min_spread` tokens or less means nothing: all rewards are 0.

    Example: `length_rewards([100, 200, 300], [True, True, True]) == [0.5, 0.0, -0.5]`.
    Raises `ValueError` if the two sequences differ in length.
    """
    if len(lengths) != len(correct):
        raise ValueError(f"{len(lengths)} lengths but {len(correct)} correctness flags")
    if not lengths:
        return []
    shortest = min(lengths)
    spread = max(lengths) - shortest
    if spread == 0 or spread <= min_spread:
        return [0.0] * len(lengths)
    rewards = []
    for length, is_correct in zip(lengths, correct, strict=True):
        reward = 0.5 - (length - shortest) / spread
        rewards.append(reward if is_correct else min(0.0, reward))
    return rewards


def overlong_penalty(length: int, max_length: int, cache: int) -> float:
    """DAPO's soft overlong penalty: 0 up to max_length - cache, linear to -1 at max_length.

    Example: with 1000 and 200, lengths 800, 900, 1000 and 5000 give 0, -0.5, -1 and -1.
    """
    return -min(1.0, max(0.0, (length - (max_length - cache)) / cache))
