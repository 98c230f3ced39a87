"""Which problems an iteration trains on: sources mixed by weight, each drawn from by curriculum
and priority (docs/choosing.md). No Ray, no clocks: the same seed and updates, the same problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...configs.errors import ConfigError
from ...configs.rl import ChoosingConfig
from ...problems.types import Problem
from .difficulty import UNKNOWN_DIFFICULTY, SuccessRates, difficulties
from .passes import ProblemPool


class ProblemChooser:
    """The problems of one or several sources, asked for iteration by iteration.

    By default every problem comes once per epoch, in a seeded order. Ids must be unique over all
    sources.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[Problem]],
        seed: int,
        config: ChoosingConfig = ChoosingConfig(),  # noqa: B008, it is frozen
        weights: Sequence[float] | None = None,
    ) -> None:
        """Raises ConfigError if the curriculum needs labels that a source does not have."""
        self.problems = [problem for source in sources for problem in source]
        self.excluded: set[str] = set()
        self._weights = list(weights or [1.0] * len(sources))
        self._drawn = [0] * len(sources)
        self._asked: tuple[int, set[str]] = (-1, set())
        self._success = SuccessRates(
            {
                problem.id: 1.0 - (UNKNOWN_DIFFICULTY if label is None else label)
                for source in sources
                for problem, label in zip(source, difficulties(source), strict=True)
            },
            config.success_rate_step,
            config.capped_after,
        )
        self._pools = [
            ProblemPool(source, f"{seed}:{index}" if index else f"{seed}", config, self._success)
            for index, source in enumerate(sources)
        ]

    def next(self, count: int, iteration: int) -> list[Problem]:
        """`count` different problems for an iteration; fewer only when fewer are left altogether.

        Asked again for the same iteration, it gives others: with the same seed the same problem
        would get the same responses. The sources take turns, as often as their weights say.
        """
        asked = self._asked[1] if self._asked[0] == iteration else set()
        barred = self.excluded | asked
        usable = [pool.usable(barred) for pool in self._pools]
        turns = source_turns(self._weights, self._drawn, usable, count)
        drawn = [
            iter(pool.draw(turns.count(index), iteration, barred))
            for index, pool in enumerate(self._pools)
        ]
        for index in turns:
            self._drawn[index] += 1
        problems = [next(drawn[index]) for index in turns]
        self._asked = (iteration, asked | {problem.id for problem in problems})
        return problems

    def exclude(self, problem_id: str) -> None:
        """Never ask for a problem again that cannot be rolled out."""
        self.excluded.add(problem_id)

    def update(self, accuracies: Mapping[str, float]) -> None:
        """Raw accuracy in [0, 1] of each problem's responses, once an iteration is graded."""
        self._success.update(accuracies)

    def success(self, problem_id: str) -> float:
        """The current estimate s_j. Raises KeyError for a problem of no source."""
        return self._success.success(problem_id)

    def metrics(self) -> dict[str, float]:
        """choosing/success_mean: mean s over all problems, by label where not visited yet;
        seen_share: visited at least once; capped_share: failed too often to be preferred."""
        return self._success.metrics()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next draws depend on besides config and data, as JSON."""
        return {
            "sources": [
                {**pool.state_dict(), "drawn": drawn}
                for pool, drawn in zip(self._pools, self._drawn, strict=True)
            ],
            "success": self._success.state_dict(),
            "excluded": sorted(self.excluded),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises ConfigError if the state is that of another number of sources."""
        sources = state["sources"]
        if len(sources) != len(self._pools):
            raise ConfigError(
                f"problems: the run's checkpoint has {len(sources)} source(s), the config "
                f"{len(self._pools)}; resume with the same sources or use another run_dir"
            )
        for index, (pool, source) in enumerate(zip(self._pools, sources, strict=True)):
            self._drawn[index] = source["drawn"]
            pool.load_state_dict({key: source[key] for key in ("epoch", "position")})
        self._success.load_state_dict(state["success"])
        self.excluded = set(state["excluded"])


def source_turns(
    weights: Sequence[float], drawn: Sequence[int], usable: Sequence[int], count: int
) -> list[int]:
    """The source of each of the next `count` problems, `drawn` so far from each.

    Each turn goes to the source that would still be furthest behind its weight with one more
    problem. A source whose problems are all in the batch leaves its turns to the others.

    Example: weights (3, 1), nothing drawn yet, four problems: [0, 0, 0, 1].
    """
    taken = [0] * len(weights)
    turns: list[int] = []
    while len(turns) < count:
        able = [index for index in range(len(weights)) if taken[index] < usable[index]]
        if not able:
            break
        turn = min(able, key=lambda i: (drawn[i] + taken[i] + 1) / weights[i])
        taken[turn] += 1
        turns.append(turn)
    return turns
