"""The voice of the solutions: plan, look, work, check; sometimes a slip or a second way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

SLIP_RATE = 0.1
OTHER_WAY_RATE = 0.2

# One phrase a move. Variety here would be noise to reinforcement learning: every token that could
# as well have been another one adds variance to the policy gradient and nothing to the answer.
# A slip opens with "Try" and is taken back in the next sentence.


@dataclass(frozen=True, slots=True)
class Solution:
    """Sentences of a solution: `opening` plans and may slip, then reads, works and checks;
    `recheck` goes over it all once more; `closing` may try another way and ends on the answer."""

    opening: str
    recheck: str
    closing: str

    def text(self, rechecked: bool = False) -> str:
        parts = (
            (self.opening, self.recheck, self.closing)
            if rechecked
            else (self.opening, self.closing)
        )
        return " ".join(parts)


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
    recheck: str | None = None,
) -> Solution:
    """One solution: plan and check always, reflection on a slip and exploration now and then.

    Every part is a clause without its full stop. `slip` is a wrong first attempt; all other
    parts must be true. `recheck` is a slower way; by default the same look again.
    """
    opening, closing = f"Plan: {plan}.", f"So {answer}."
    if rng.random() < SLIP_RATE:
        opening += f" Try {slip}. Wait, no."
    if rng.random() < OTHER_WAY_RATE:
        closing = f"Or {other_way}. {closing}"
    reading = f"I see {look}. {work}. Check: {check}, right."
    return Solution(
        f"{opening} {reading}", f"Again: {recheck or reading.removesuffix('.')}.", closing
    )


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
