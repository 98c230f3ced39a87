"""What changes over the iterations of an RL run; the values are computed in rl/schedule.py."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from .base import StrictModel


class Ramp(StrictModel):
    """A straight line from `start` at iteration 0 to `end` at iteration `iterations`."""

    start: PositiveFloat
    end: PositiveFloat
    iterations: PositiveInt


class ScheduleConfig(StrictModel):
    """What changes over the iterations; what is absent stays at its own setting."""

    temperature: Ramp | None = Field(default=None, description="up to 2, as vLLM samples")
    max_response_tokens: Ramp | None = Field(
        default=None, description="up to rollout.max_response_tokens"
    )
    learning_rate: Ramp | None = None

    @field_validator("temperature")
    @classmethod
    def _can_be_sampled(cls, value: Ramp | None) -> Ramp | None:
        if value is not None and max(value.start, value.end) > 2:
            raise ValueError(f"{max(value.start, value.end):g} is too hot: vLLM samples up to 2")
        return value
