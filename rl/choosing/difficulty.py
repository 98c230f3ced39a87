"""How hard each problem is: its label, a running estimate of its success rate, its priority."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ...problems.types import Problem

# What is assumed of a problem about which the data says nothing.
UNKNOWN_DIFFICULTY = 0.5


def difficulties(problems: Sequence[Problem]) -> list[float | None]:
    """Labels in [0, 1] for the problems of one source, 1 the hardest; None where there is none.

    1 − pass rate where the problem has one (Kimi k1.5 §2.3.4). Otherwise its level among those of
    the source, each in the middle of its bin: of levels 1 to 4 the first is .125, the last .875.
    No level says that a problem is never or always solved.
    """
    levels = [problem.level for problem in problems if problem.level is not None]
    lowest, bins = min(levels, default=0), max(levels, default=0) - min(levels, default=0) + 1

    def label(problem: Problem) -> float | None:
        if problem.pass_rate is not None:
            return 1.0 - problem.pass_rate
        return None if problem.level is None else (problem.level - lowest + 0.5) / bins

    return [label(problem) for problem in problems]


def priorities(
    success: Sequence[float], capped: Sequence[bool], uniform_share: float
) -> list[float]:
    """P(j) = (1 − ε)·(1 − s_j)/Σ(1 − s) + ε/N, with ε = `uniform_share`; they sum to 1.

    A capped problem keeps the second term only. Where 1 − s is 0 everywhere P is uniform.
    """
    wanted = [0.0 if stop else 1.0 - s for s, stop in zip(success, capped, strict=True)]
    total, count = sum(wanted), len(wanted)
    if total <= 0:
        return [1 / count] * count
    return [(1 - uniform_share) * want / total + uniform_share / count for want in wanted]


@dataclass(slots=True)
class Estimate:
    """What training has seen of one problem.

    success   s_j, an exponential moving average of the group's raw accuracy
    failed    visits without a single right response since the last one with any
    """

    success: float
    failed: int = 0


class SuccessRates:
    """s_j of every problem: its prior until it is visited, then a moving average.

    Example: prior .5 and rate .5, then a group with 6 of 8 right: s = .5·.5 + .5·.75 = .625.
    """

    def __init__(self, priors: Mapping[str, float], rate: float, capped_after: int) -> None:
        self._priors = priors
        self._rate = rate
        self._capped_after = capped_after
        self._visited: dict[str, Estimate] = {}

    def update(self, accuracies: Mapping[str, float]) -> None:
        """Raw accuracy in [0, 1] of each problem's group; problems of other sets are ignored."""
        for problem_id, accuracy in accuracies.items():
            if problem_id not in self._priors:
                continue
            one = self._visited.setdefault(problem_id, Estimate(self._priors[problem_id]))
            one.success += self._rate * (accuracy - one.success)
            one.failed = 0 if accuracy > 0 else one.failed + 1

    def success(self, problem_id: str) -> float:
        visited = self._visited.get(problem_id)
        return self._priors[problem_id] if visited is None else visited.success

    def capped(self, problem_id: str) -> bool:
        """Never right in the last `capped_after` visits: no group of it has a gradient."""
        visited = self._visited.get(problem_id)
        return visited is not None and visited.failed >= self._capped_after

    def metrics(self) -> dict[str, float]:
        """Shares of all problems, in [0, 1]."""
        count = max(len(self._priors), 1)
        return {
            "choosing/success_mean": sum(map(self.success, self._priors)) / count,
            "choosing/seen_share": len(self._visited) / count,
            "choosing/capped_share": sum(map(self.capped, self._visited)) / count,
        }

    def state_dict(self) -> dict[str, object]:
        return {problem_id: asdict(one) for problem_id, one in self._visited.items()}

    def load_state_dict(self, state: Mapping[str, dict]) -> None:
        """Problems that are no longer in the data are dropped."""
        self._visited = {
            problem_id: Estimate(**one)
            for problem_id, one in state.items()
            if problem_id in self._priors
        }
