"""What changes over the iterations is a function of the iteration alone."""

from __future__ import annotations

import pytest
from kvl.configs.rl import Ramp, RLConfig, ScheduleConfig
from kvl.rl.schedule import learning_rate, max_response_tokens, ramped, temperature
from pydantic import ValidationError


def config(schedule: ScheduleConfig) -> RLConfig:
    return RLConfig.model_validate(
        {
            "run_dir": "r",
            "checkpoint": "c",
            "problems": {"path": "p.jsonl"},
            "schedule": schedule.model_dump(),
        }
    )


def test_a_ramp_is_a_straight_line_that_stays_at_its_end() -> None:
    ramp = Ramp(start=1.0, end=0.6, iterations=4)
    values = [ramped(ramp, 9.0, iteration) for iteration in range(6)]
    assert values == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.6])


def test_without_a_ramp_the_setting_itself_holds() -> None:
    plain = config(ScheduleConfig())
    assert temperature(plain, 7) == plain.rollout.temperature
    assert max_response_tokens(plain, 7) == plain.rollout.max_response_tokens
    assert learning_rate(plain, 7) == plain.learner.optimizer.learning_rate


def test_the_cap_grows_in_whole_tokens() -> None:
    growing = config(ScheduleConfig(max_response_tokens=Ramp(start=100, end=200, iterations=3)))
    assert [max_response_tokens(growing, i) for i in range(5)] == [100, 133, 167, 200, 200]


def test_a_cap_beyond_the_fixed_one_is_refused_with_the_fix() -> None:
    with pytest.raises(ValidationError, match=r"rollout.max_response_tokens \(2048\): raise that"):
        config(ScheduleConfig(max_response_tokens=Ramp(start=100, end=4000, iterations=3)))
