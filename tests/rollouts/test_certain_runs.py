"""When a response counts as repeating itself, without an engine."""

from __future__ import annotations

import math

from kvl.configs.rollout import RepetitionStop
from kvl.rollouts.certain_runs import CertainRuns, run_at_end

CERTAIN, DOUBTFUL = math.log(0.995), math.log(0.5)


def stops(*logprobs: float, before: int = 0) -> list[bool]:
    runs = CertainRuns(RepetitionStop(tokens=3, probability=0.99))
    return [runs.add("a", logprob, before) for logprob in logprobs]


def test_the_last_token_of_a_long_enough_run_stops() -> None:
    assert stops(CERTAIN, CERTAIN, CERTAIN) == [False, False, True]


def test_a_doubtful_token_starts_the_run_anew() -> None:
    assert not any(stops(CERTAIN, CERTAIN, DOUBTFUL, CERTAIN, CERTAIN))
    # Exactly p is not above p.
    assert not any(stops(*[math.log(0.99)] * 9))
    assert not any(stops(*[math.nan] * 9))


def test_responses_are_counted_apart_and_forgotten() -> None:
    runs = CertainRuns(RepetitionStop(tokens=3, probability=0.99))
    assert not any(runs.add(name, CERTAIN) for name in "abab")
    runs.forget("a")
    runs.forget("never seen")
    assert [runs.add(name, CERTAIN) for name in "ab"] == [False, True]
    assert set(runs.runs) == {"a", "b"}


def test_a_continued_response_goes_on_with_the_run_it_ended_with() -> None:
    assert run_at_end((DOUBTFUL, CERTAIN, CERTAIN), 0.99) == 2
    assert run_at_end((CERTAIN, DOUBTFUL), 0.99) == 0
    assert run_at_end((CERTAIN,) * 4, 0.99) == 4
    assert run_at_end((), 0.99) == 0
    assert stops(CERTAIN, before=2) == [True]
    # Only where it begins: afterwards its own run counts.
    assert stops(DOUBTFUL, CERTAIN, CERTAIN, before=2) == [False, False, False]
