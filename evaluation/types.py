"""A graded response with everything that is known of it, and all responses to one problem."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from ..problems.types import Problem
from ..rewards.types import Verdict
from ..rollouts.types import Rollout, StopReason


@dataclass(frozen=True, slots=True)
class GradedResponse:
    """One response: its problem, how it was sampled, what the verifier says, what it is worth.

    Example: a right answer in a group of two of which the other is wrong has
    `verdict.parts == {"accuracy": 1.0}`, `reward == 1.0` and `advantage == 0.5`.

    verdict     with the weighted parts of the reward, once rewards are computed
    advantage   None: it is not trained on, because it is only evaluated, or could not be graded,
                or was left out of its group
    temperature what it was sampled at, 0 for greedy; None: not known
    """

    problem: Problem
    rollout: Rollout
    verdict: Verdict
    advantage: float | None = None
    temperature: float | None = None

    @property
    def accuracy(self) -> float:
        """Correctness in {0, 1}; a response that was cut is wrong whatever it says."""
        return self.verdict.accuracy if self.rollout.stop_reason is StopReason.STOP else 0.0

    @property
    def reward(self) -> float:
        """The sum of the weighted parts."""
        return self.verdict.reward

    @property
    def tokens(self) -> int:
        """Response tokens, the closing one included."""
        return len(self.rollout.response_token_ids)


@dataclass(frozen=True, slots=True)
class Group:
    """All responses to one problem, in the order of their sample numbers; a greedy one comes
    first. Never empty.

    It is the same group from the verdicts on: rewards and advantages are added to its responses,
    and those that are not trained on stay in it for metrics and records.
    """

    responses: tuple[GradedResponse, ...]

    @property
    def problem(self) -> Problem:
        return self.responses[0].problem

    @property
    def trained(self) -> tuple[GradedResponse, ...]:
        """Those with an advantage."""
        return tuple(one for one in self.responses if one.advantage is not None)

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Raw correctness of the gradable responses."""
        return tuple(one.accuracy for one in self.responses if one.verdict.gradable)

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among gradable responses; None when there is none."""
        graded = self.accuracies
        return sum(graded) / len(graded) if graded else None

    @property
    def degenerate(self) -> bool:
        """What is trained on is all right or all wrong: without advantage, but not without the
        τ term (fact A8)."""
        return len({one.accuracy for one in self.trained}) == 1


def grouped(responses: Iterable[GradedResponse]) -> list[Group]:
    """Neighbouring responses to the same problem as groups, in their order."""
    return [
        Group(tuple(sorted(own, key=lambda one: one.rollout.sample)))
        for _, own in groupby(responses, key=lambda one: one.problem.id)
    ]
