"""The voice of the solutions: plan, look, work, check; sometimes a slip or a second way."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

SLIP_RATE = 0.1
OTHER_WAY_RATE = 0.2

# One phrase a move. Variety here would be noise to reinforcement learning: every token that could
# as well have been another one adds variance to the policy gradient and nothing to the answer.
# A slip opens with "Try" and is taken back in the next sentence.


def write_solution(
    rng: Random,
    *,
    plan: str,
    look: str,
    work: str,
    check: str,
    slip: str,
    other_way: str,
    answer: str,
) -> str:
    """One solution: plan and check always, reflection on a slip and exploration now and then.

    Every part is a clause without its full stop. `slip` is a wrong first attempt; all other
    parts must be true.
    """
    sentences = [f"Plan: {plan}.", f"I see {look}."]
    if rng.random() < SLIP_RATE:
        sentences.append(f"Try {slip}. Wait, no.")
    sentences += [f"{work}.", f"Check: {check}, right."]
    if rng.random() < OTHER_WAY_RATE:
        sentences.append(f"Or {other_way}.")
    sentences.append(f"So {answer}.")
    return " ".join(sentences)


def running_sum(numbers: Sequence[int]) -> str:
    """`[2, 1, 4]` as "2 + 1 = 3, 3 + 4 = 7": one true equation a step."""
    total, steps = numbers[0], []
    for number in numbers[1:]:
        steps.append(f"{total} + {number} = {total + number}")
        total += number
    return ", ".join(steps)


def comma(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items)


def off_by_one(number: int, rng: Random) -> int:
    """A plausible wrong reading of a positive number, itself never below 1."""
    return number + 1 if number == 1 else number + rng.choice((-1, 1))
