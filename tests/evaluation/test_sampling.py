"""Chunks, passes and failures of sampling a problem set; the fleet is scripted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from kvl.configs.rollout import EngineConfig, RolloutConfig
from kvl.evaluation.sampling import graded_chunks
from kvl.problems.types import AnswerType, Problem
from kvl.rewards.grader import Grader
from kvl.rollouts.types import Rollout, RolloutFailure, SamplingSettings, Segment, StopReason

PROBLEMS = [Problem(f"p{i}", "?", (), "3", AnswerType.NUMBER) for i in range(6)]
GREEDY, DRAWN = SamplingSettings(1, 0.0), SamplingSettings(3, 1.0)


class Fleet:
    """Answers 3 when greedy; cannot sample p4 when not. Notes how much it was asked before each
    wait."""

    def __init__(self) -> None:
        self.asked = 0
        self.waits: list[int] = []

    def submit(self, problems: Sequence[Problem], settings: SamplingSettings) -> Any:
        self.asked += len(problems)
        return problems, settings

    def collect(self, submitted: Any) -> tuple[list[Rollout], list[RolloutFailure]]:
        self.waits.append(self.asked)
        problems, settings = submitted
        fails = [one.id for one in problems if one.id == "p4" and settings.temperature]
        text = "nothing" if settings.temperature else "◁think▷so◁/think▷3"
        rollouts = [
            Rollout(one.id, i, (1,), (2,), (-1.0,), (Segment(0, 1, 0),), StopReason.STOP, text)
            for one in problems
            if one.id not in fails
            for i in range(settings.samples)
        ]
        return rollouts, [RolloutFailure(name, "too long") for name in fails]


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=1, timeout_seconds=60) as opened:
        yield opened


@pytest.mark.parametrize(("deterministic", "ahead"), [(False, 2), (True, 1)])
def test_the_engines_have_a_chunk_while_another_is_awaited(
    grader: Grader, deterministic: bool, ahead: int
) -> None:
    # Two problems make a chunk.
    rollout = RolloutConfig(engine=EngineConfig(max_num_seqs=3, deterministic=deterministic))
    fleet = Fleet()
    chunks = graded_chunks(fleet, grader, PROBLEMS[:4], [DRAWN], rollout)  # pyright: ignore
    assert [[one.id for one in chunk.problems] for chunk in chunks] == [["p0", "p1"], ["p2", "p3"]]
    assert fleet.waits == [min(4, 2 * (turn + ahead)) for turn in range(2)]


def test_a_group_has_the_responses_of_all_passes_or_the_problem_failed(grader: Grader) -> None:
    rollout = RolloutConfig(engine=EngineConfig(max_num_seqs=4))
    fleet = Fleet()
    chunks = list(graded_chunks(fleet, grader, PROBLEMS, (GREEDY, DRAWN), rollout))  # pyright: ignore
    groups = [group for chunk in chunks for group in chunk.groups]
    assert [group.problem.id for group in groups] == ["p0", "p1", "p2", "p3", "p5"]
    assert [failure.problem_id for chunk in chunks for failure in chunk.failures] == ["p4"]
    for group in groups:
        drawn = [(one.temperature, one.rollout.sample) for one in group.responses]
        assert drawn == [(0.0, 0), (1.0, 0), (1.0, 1), (1.0, 2)]
        assert [one.accuracy for one in group.responses] == [1, 0, 0, 0]
