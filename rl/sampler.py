"""Which problems an iteration trains on: every one once per epoch, in a seeded order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ..problems.types import Problem


@dataclass(slots=True)
class SamplerState:
    epoch: int = 0
    position: int = 0


class ProblemSampler:
    """Uniform sampling without repetition within an epoch; its state is two integers."""

    def __init__(self, problems: Sequence[Problem], seed: int) -> None:
        self.problems = list(problems)
        self.seed = seed
        self.state = SamplerState()
        self.excluded: set[str] = set()
        self._shuffled: tuple[int, list[Problem]] = (-1, [])

    def next(self, count: int) -> list[Problem]:
        """The next `count` problems; fewer only when fewer are left altogether."""
        chosen: dict[str, Problem] = {}
        usable = len(self.problems) - len(self.excluded)
        while len(chosen) < min(count, usable):
            order = self._order(self.state.epoch)
            if self.state.position >= len(order):
                self.state.epoch, self.state.position = self.state.epoch + 1, 0
                continue
            problem = order[self.state.position]
            self.state.position += 1
            if problem.id not in self.excluded:
                chosen.setdefault(problem.id, problem)
        return list(chosen.values())

    def exclude(self, problem_id: str) -> None:
        """Never ask for a problem again that cannot be rolled out."""
        self.excluded.add(problem_id)

    def _order(self, epoch: int) -> list[Problem]:
        if self._shuffled[0] != epoch:
            order = list(self.problems)
            random.Random(f"{self.seed}/{epoch}").shuffle(order)
            self._shuffled = (epoch, order)
        return self._shuffled[1]

    def state_dict(self) -> dict[str, object]:
        return {**asdict(self.state), "excluded": sorted(self.excluded)}

    def load_state_dict(self, state: dict) -> None:
        self.state = SamplerState(epoch=state["epoch"], position=state["position"])
        self.excluded = set(state["excluded"])
