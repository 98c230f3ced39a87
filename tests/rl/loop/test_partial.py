"""Groups that wait until their longest response is finished."""

from __future__ import annotations

import json
from dataclasses import replace

from kvl.problems.types import AnswerType, Problem
from kvl.rl.loop.partial import PartialRollouts
from kvl.rollouts.types import Rollout, Routes, SamplingSettings, Segment, StopReason

STOP, LENGTH = StopReason.STOP, StopReason.LENGTH
P, Q = (Problem(name, "?", (), "7", AnswerType.NUMBER) for name in "pq")


def rollout(problem: str, sample: int, tokens: int, reason: StopReason, version: int = 0):
    return Rollout(
        problem_id=problem,
        sample=sample,
        prompt_token_ids=(5, 6),
        response_token_ids=tuple(range(tokens)),
        logprobs=(-0.5,) * tokens,
        segments=(Segment(0, tokens, version),),
        stop_reason=reason,
        text="x",
    )


def test_a_group_waits_until_all_its_responses_are_finished() -> None:
    partial = PartialRollouts(max_total_tokens=10)
    done = [rollout("p", 0, 3, STOP), rollout("p", 1, 2, STOP)]
    open_ = [rollout("q", 0, 4, LENGTH), rollout("q", 1, 3, STOP)]
    complete, rollouts = partial.take([P, Q], [*done, *open_])
    assert complete == [P]
    assert rollouts == done
    assert len(partial) == 1
    assert partial.unfinished() == [(Q, (open_[0],))]

    grown = rollout("q", 0, 8, LENGTH, version=1)
    assert partial.take([], [grown]) == ([], [])
    assert partial.unfinished() == [(Q, (grown,))]

    # At the total cap a response is finished: cut for good.
    ended = rollout("q", 0, 10, LENGTH, version=2)
    assert partial.take([], [ended]) == ([Q], [ended, open_[1]])
    assert len(partial) == 0


def test_a_later_group_may_be_finished_before_an_earlier_one() -> None:
    partial = PartialRollouts(max_total_tokens=10)
    assert partial.take([P], [rollout("p", 0, 4, LENGTH), rollout("p", 1, 2, STOP)]) == ([], [])
    longer, new = rollout("p", 0, 8, LENGTH, version=1), rollout("q", 0, 3, STOP, version=1)
    assert partial.take([Q], [new, longer]) == ([Q], [new])
    assert partial.unfinished() == [(P, (longer,))]
    ended = rollout("p", 0, 9, STOP, version=2)
    assert partial.take([], [ended]) == ([P], [ended, rollout("p", 1, 2, STOP)])


def test_what_repeats_itself_is_finished() -> None:
    partial = PartialRollouts(max_total_tokens=10)
    repeating = rollout("p", 0, 4, StopReason.REPETITION)
    assert partial.take([P], [repeating]) == ([P], [repeating])


def test_without_partial_rollouts_nothing_waits() -> None:
    partial = PartialRollouts(0)
    cut = rollout("p", 0, 4, LENGTH)
    assert partial.take([P], [cut]) == ([P], [cut])


def test_what_waits_survives_a_checkpoint() -> None:
    partial = PartialRollouts(10)
    partial.take([P, Q], [rollout("p", 0, 4, LENGTH), rollout("q", 1, 5, LENGTH, version=3)])
    restored = PartialRollouts(10)
    restored.load_state_dict(json.loads(json.dumps(partial.state_dict())), {"p": P, "q": Q})
    assert restored.waiting == partial.waiting
    # Routes are large, and those of a response that goes on are returned anew.
    routed = replace(rollout("p", 0, 4, LENGTH), routes=Routes(1, 1, bytes(5)))
    partial.waiting["p"] = (P, (routed,))
    assert json.loads(json.dumps(partial.state_dict())) == json.loads(
        json.dumps(restored.state_dict())
    )
    restored.load_state_dict(partial.state_dict(), {"q": Q})
    assert list(restored.waiting) == ["q"]


def test_a_problem_that_failed_is_dropped() -> None:
    partial = PartialRollouts(10)
    partial.take([P], [rollout("p", 0, 4, LENGTH)])
    partial.drop("p")
    partial.drop("never seen")
    assert partial.unfinished() == []


def test_a_continued_response_gets_no_more_than_is_left_of_its_total() -> None:
    settings = SamplingSettings(max_response_tokens=6, max_total_tokens=10)
    assert settings.new_tokens(None) == 6
    assert settings.new_tokens(rollout("p", 0, 3, LENGTH)) == 6
    assert settings.new_tokens(rollout("p", 0, 8, LENGTH)) == 2
