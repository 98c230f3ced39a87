"""What changes over the iterations of a run: temperature, response cap, learning rate.

Pure functions of the iteration, so that a resumed run is where it was and an optimizer reset
changes nothing.
"""

from __future__ import annotations

from ..configs.rl import Ramp, RLConfig


def ramped(ramp: Ramp | None, otherwise: float, iteration: int) -> float:
    """`ramp` at an iteration: a straight line from `start` to `end`, which then stays.

    Example: Ramp(start=1.0, end=0.6, iterations=4) is 1.0, 0.9, 0.8, 0.7, 0.6, 0.6, …
    """
    if ramp is None:
        return otherwise
    share = min(iteration / ramp.iterations, 1.0)
    return ramp.start + (ramp.end - ramp.start) * share


def temperature(config: RLConfig, iteration: int) -> float:
    return ramped(config.schedule.temperature, config.rollout.temperature, iteration)


def max_response_tokens(config: RLConfig, iteration: int) -> int:
    cap = config.rollout.max_response_tokens
    return round(ramped(config.schedule.max_response_tokens, cap, iteration))


def learning_rate(config: RLConfig, iteration: int) -> float:
    rate = config.learner.optimizer.learning_rate
    return ramped(config.schedule.learning_rate, rate, iteration)
