"""Refilling degenerate groups; the engine and the grader are stood in for by what they return."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from kvl.configs.errors import KVLError
from kvl.configs.rl import RLConfig
from kvl.problems.types import AnswerType, Problem
from kvl.rewards.combine import Rewards, RewardSpec
from kvl.rewards.types import Outcome, Verdict
from kvl.rl.choosing.chooser import ProblemSampler
from kvl.rl.loop.collect import collect
from kvl.rl.loop.partial import PartialRollouts
from kvl.rollouts.types import Rollout, RolloutFailure, Segment, StopReason

SAMPLES = 2


class Stage:
    """Answers by the problem's id: `mixed…`, `right…`, `wrong…`, `broken…`."""

    def __init__(self, ids: list[str]) -> None:
        problems = [Problem(one, "?", (), "7", AnswerType.NUMBER) for one in ids]
        self.sampler = ProblemSampler([problems], 0)
        self.asked: list[str] = []
        self.failed: list[str] = []

    def generate(self, problems: list[Problem], _settings: Any, _continued: Any = ()):
        self.asked += [problem.id for problem in problems]
        good = [problem for problem in problems if not problem.id.startswith("broken")]
        rollouts = [
            Rollout(one.id, n, (1,), (2,), (-1.0,), (Segment(0, 1, 0),), StopReason.STOP, one.id)
            for one in good
            for n in range(SAMPLES)
        ]
        broken = [one for one in problems if one not in good]
        return rollouts, [RolloutFailure(one.id, "no image") for one in broken]

    def grade(self, requests: list[Any]) -> list[Verdict]:
        return [
            Verdict(
                Outcome.CORRECT
                if request.response.startswith("right")
                or (request.response.startswith("mixed") and number % SAMPLES == 0)
                else Outcome.INCORRECT
            )
            for number, request in enumerate(requests)
        ]

    def failure(self, _iteration: int, problem_id: str, _reason: str) -> None:
        self.failed.append(problem_id)

    def run(self, **rollout: Any) -> Any:
        config = RLConfig.model_validate(
            {
                "run_dir": "r",
                "checkpoint": "c",
                "problems": {"path": "p.jsonl"},
                "learner": {"minibatches": 1},
                "rollout": {"problems_per_iteration": 2, "samples_per_problem": SAMPLES, **rollout},
            }
        )
        recorder = SimpleNamespace(stage=lambda _name: nullcontext(), failure=self.failure)
        return SimpleNamespace(
            config=config,
            sampler=self.sampler,
            fleet=self,
            grader=self,
            rewards=Rewards([RewardSpec("accuracy")]),
            recorder=recorder,
            partial=PartialRollouts(0),
        )


def test_degenerate_groups_are_kept_unless_refill_is_asked_for() -> None:
    stage = Stage(["right1", "wrong1", "mixed1", "mixed2"])
    kept = collect(stage.run(), 0)
    assert len(stage.asked) == 2
    assert len(kept.groups) == 2
    assert kept.refills == 0


def test_refill_asks_for_other_problems_until_enough_groups_have_a_signal() -> None:
    stage = Stage(["right1", "wrong1", "right2", "wrong2", "mixed1", "mixed2"])
    result = collect(stage.run(degenerate_groups="refill", max_refills=6), 0)
    assert sorted(group.problem.id for group in result.groups) == ["mixed1", "mixed2"]
    # Everything that was sampled stays in the metrics, also what is not trained on.
    assert len(result.answered) == len(stage.asked) == len(set(stage.asked))


def test_refill_is_bounded() -> None:
    stage = Stage([f"wrong{n}" for n in range(40)] + ["mixed1"])
    run = stage.run(degenerate_groups="refill", max_refills=2)
    with pytest.raises(KVLError, match="all right or all wrong"):
        collect(run, 0)
    assert len(stage.asked) <= 3 * 2


def test_a_problem_that_cannot_be_rolled_out_is_reported_once_and_not_asked_again() -> None:
    stage = Stage(["broken1", "mixed1", "mixed2"])
    run = stage.run()
    results = [collect(run, iteration) for iteration in range(3)]
    assert stage.failed == ["broken1"]
    assert stage.asked.count("broken1") == 1
    assert sum(len(result.failures) for result in results) == 1
