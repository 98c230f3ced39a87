"""One source of problems: passes over it without repetition, by curriculum and by priority."""

from __future__ import annotations

import random
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass

from ...configs.errors import ConfigError
from ...configs.rl import ChoosingConfig
from ...problems.types import Problem
from .difficulty import UNKNOWN_DIFFICULTY, SuccessRates, difficulties, priorities


@dataclass(slots=True)
class Position:
    """The pass over the source that is under way, and how many problems of it are behind."""

    epoch: int = 0
    position: int = 0


@dataclass(frozen=True, slots=True)
class _Pass:
    """One epoch: every problem once, with the number in [0, 1) that decides on its acceptance."""

    epoch: int
    order: Sequence[Problem]
    draws: Sequence[float]


class ProblemPool:
    """Draws from one source. An epoch is one pass over a seeded permutation, so nothing repeats
    within it.

    Prioritized draws are rejection sampling along that permutation: the next problem is accepted
    with probability P(j)/max P, so that over the epochs a problem is drawn in proportion to P(j).
    A problem that is passed by, or that the curriculum does not reach yet, waits for the next
    epoch. Nothing random is kept: order and acceptance follow from the seed and the epoch.
    """

    def __init__(
        self, problems: Sequence[Problem], seed: str, config: ChoosingConfig, success: SuccessRates
    ) -> None:
        """Raises ConfigError if the curriculum needs labels that the source does not have."""
        self.problems = list(problems)
        self.state = Position()
        self._seed = seed
        self._config = config
        self._success = success
        self._pass: _Pass | None = None
        self._ranked, self._hard = _ranking(self.problems, seed, config)

    def usable(self, barred: Set[str]) -> int:
        return sum(problem.id not in barred for problem in self.problems)

    def draw(self, count: int, iteration: int, barred: Set[str]) -> list[Problem]:
        """`count` different problems; fewer only when fewer are usable."""
        reached = self._reached(count, iteration, barred)
        chosen: dict[str, Problem] = {}
        acceptance = self._acceptance(reached, chosen)
        while len(chosen) < min(count, len(reached)):
            under_way = self._current_pass()
            if self.state.position >= len(under_way.order):
                self.state = Position(epoch=self.state.epoch + 1)
                # Relative to the likeliest problem still to be had: each pass yields at least one.
                acceptance = self._acceptance(reached, chosen)
                continue
            problem = under_way.order[self.state.position]
            draw = under_way.draws[self.state.position]
            self.state.position += 1
            if problem.id in reached and draw < acceptance.get(problem.id, 1.0):
                chosen.setdefault(problem.id, problem)
        return list(chosen.values())

    def _reached(self, count: int, iteration: int, barred: Set[str]) -> dict[str, Problem]:
        """The problems that the curriculum allows, and the next in its order where they are fewer
        than `count`."""
        ranked = [problem for problem in self._ranked if problem.id not in barred]
        length = self._config.curriculum_iterations
        match self._config.curriculum:
            case "easy_to_hard" if iteration < length:
                reach = len(ranked) * (iteration + 1) // (length + 1)
            case "uniform_then_hard" if iteration >= length:
                reach = sum(problem.id in self._hard for problem in ranked)
            case _:
                reach = len(ranked)
        return {problem.id: problem for problem in ranked[: max(reach, count)]}

    def _acceptance(
        self, reached: dict[str, Problem], chosen: dict[str, Problem]
    ) -> dict[str, float]:
        """P(j)/max P, the largest taken among the problems not chosen yet; empty if uniform."""
        if not self._config.prioritized or not reached:
            return {}
        wanted = priorities(
            [self._success.success(problem_id) for problem_id in reached],
            [self._success.capped(problem_id) for problem_id in reached],
            self._config.uniform_share,
        )
        probability = dict(zip(reached, wanted, strict=True))
        largest = max((p for one, p in probability.items() if one not in chosen), default=0.0)
        return {one: p / largest for one, p in probability.items()} if largest > 0 else {}

    def _current_pass(self) -> _Pass:
        if self._pass is None or self._pass.epoch != self.state.epoch:
            order = list(self.problems)
            generator = random.Random(f"{self._seed}/{self.state.epoch}")
            generator.shuffle(order)
            self._pass = _Pass(self.state.epoch, order, [generator.random() for _ in order])
        return self._pass

    def state_dict(self) -> dict[str, int]:
        return asdict(self.state)

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.state = Position(**state)


def _ranking(
    problems: Sequence[Problem], seed: str, config: ChoosingConfig
) -> tuple[list[Problem], set[str]]:
    """(problems in the order in which the curriculum reaches them, ids of the hard ones).

    Ties are shuffled, because files are often sorted by topic. Problems without a label count as
    of middling difficulty.
    """
    ranked = list(problems)
    if config.curriculum == "uniform":
        return ranked, set()
    labels = {p.id: label for p, label in zip(problems, difficulties(problems), strict=True)}
    if all(label is None for label in labels.values()):
        raise ConfigError(
            f"choosing.curriculum {config.curriculum}: no problem of the source that starts with "
            f"{problems[0].id} has a pass_rate or a level; label it with `kvl-rl rate`"
        )
    known = {one: UNKNOWN_DIFFICULTY if d is None else d for one, d in labels.items()}
    hard = {one for one, difficulty in known.items() if difficulty >= config.hard_from}
    if config.curriculum == "uniform_then_hard" and not hard:
        raise ConfigError(
            f"choosing.hard_from {config.hard_from:g}: no problem of the source that starts with "
            f"{problems[0].id} is that hard, the hardest is {max(known.values()):g}; lower it"
        )
    random.Random(f"{seed}/ranking").shuffle(ranked)
    ranked.sort(
        key=lambda problem: known[problem.id], reverse=config.curriculum == "uniform_then_hard"
    )
    return ranked, hard
