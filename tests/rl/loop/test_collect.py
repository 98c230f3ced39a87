"""Refilling degenerate groups; the engine and the grader are stood in for by what they return."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kvl.configs.errors import KVLError
from kvl.configs.rl import RLConfig
from kvl.problems.types import AnswerType, Problem
from kvl.rewards.combine import Rewards, RewardSpec
from kvl.rewards.types import Outcome, Verdict
from kvl.rl.choosing.chooser import ProblemChooser
from kvl.rl.loop.collect import Collector, sampling
from kvl.rl.loop.partial import PartialRollouts
from kvl.rollouts.types import Rollout, RolloutFailure, Segment, StopReason

SAMPLES = 2


class Stage:
    """Answers by the problem's id: `mixed…`, `right…`, `wrong…`, `cut…`, `broken…`."""

    def __init__(self, ids: list[str]) -> None:
        problems = [Problem(one, "?", (), "7", AnswerType.NUMBER) for one in ids]
        self.chooser = ProblemChooser([problems], 0)
        self.asked: list[str] = []
        self.failed: list[str] = []

    def generate(self, problems: list[Problem], _settings: Any, _continued: Any = ()):
        self.asked += [problem.id for problem in problems]
        good = [problem for problem in problems if not problem.id.startswith("broken")]
        rollouts = [
            Rollout(
                one.id,
                n,
                (1,),
                (2,),
                (-1.0,),
                (Segment(0, 1, 0),),
                StopReason.LENGTH if one.id.startswith("cut") else StopReason.STOP,
                one.id,
            )
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

    def collector(self, **rollout: Any) -> Collector:
        config = RLConfig.model_validate(
            {
                "run_dir": "r",
                "checkpoint": "c",
                "problems": {"path": "p.jsonl"},
                "learner": {"minibatches": 1},
                "rollout": {"problems_per_iteration": 2, "samples_per_problem": SAMPLES, **rollout},
            }
        )
        recorder: Any = SimpleNamespace(
            stage=lambda _name: nullcontext(), failure=self.failure, run_dir=Path("r")
        )
        stage: Any = self
        return Collector(
            config,
            self.chooser,
            fleet=stage,
            grader=stage,
            rewards=Rewards([RewardSpec("accuracy")]),
            recorder=recorder,
            partial=PartialRollouts(0),
        )


def test_degenerate_groups_are_kept_unless_refill_is_asked_for() -> None:
    stage = Stage(["right1", "wrong1", "mixed1", "mixed2"])
    kept = stage.collector().collect(0)
    assert len(stage.asked) == 2
    assert len(kept.trained) == 2
    assert kept.refills == 0


def test_refill_asks_for_other_problems_until_enough_groups_have_a_signal() -> None:
    stage = Stage(["right1", "wrong1", "right2", "wrong2", "mixed1", "mixed2"])
    result = stage.collector(degenerate_groups="refill", max_refills=6).collect(0)
    assert sorted(group.problem.id for group in result.trained) == ["mixed1", "mixed2"]
    # Everything that was sampled stays in the metrics, also what is not trained on.
    assert len(result.groups) == len(stage.asked) == len(set(stage.asked))


@pytest.mark.parametrize("kind", ["right", "wrong"])
def test_refill_is_bounded_and_then_goes_on_with_what_there_is(kind: str) -> None:
    stage = Stage([f"{kind}{n}" for n in range(40)])
    result = stage.collector(degenerate_groups="refill", max_refills=2).collect(0)
    assert len(stage.asked) == len(result.groups) == 3 * 2
    assert len(result.trained) == 2
    assert all(group.degenerate for group in result.trained)


def test_an_iteration_whose_samples_are_all_left_out_has_nothing_to_train_on() -> None:
    stage = Stage(["cut1", "cut2", "cut3"])
    result = stage.collector(truncated="mask").collect(0)
    assert result.trained == []
    assert len(result.groups) == 2


def test_an_iteration_of_which_no_problem_can_be_rolled_out_is_an_error() -> None:
    stage = Stage(["broken1", "broken2"])
    with pytest.raises(KVLError, match=r"none of 2 problems could be .*failures\.jsonl"):
        stage.collector().collect(0)


def test_a_problem_that_cannot_be_rolled_out_is_reported_once_and_not_asked_again() -> None:
    stage = Stage(["broken1", "mixed1", "mixed2"])
    collector = stage.collector()
    results = [collector.collect(iteration) for iteration in range(3)]
    assert stage.failed == ["broken1"]
    assert stage.asked.count("broken1") == 1
    assert sum(len(result.failures) for result in results) == 1


def test_only_exact_runs_give_every_sample_a_seed_of_its_own() -> None:
    def seeds(**engine: Any) -> set[int | None]:
        config = Stage([]).collector(engine=engine).config
        return {sampling(config, one, again).seed for one in (1, 2) for again in (0, 1)}

    assert seeds() == {None}
    exact = seeds(deterministic=True)
    assert len(exact) == 4
    assert None not in exact
