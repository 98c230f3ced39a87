"""Counting how long a policy has been certain of every token it samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..configs.rollout import RepetitionStop

# In a request's extra_args: the run with which a continued response begins.
RUN_BEFORE = "certain_tokens_before"


@dataclass(slots=True)
class CertainRuns:
    """By response, how many of its newest tokens were sampled with p > `limit.probability`.

    Example: with limit 3 tokens of p > .99, log-probs −.001, −.001, −.5, 0, 0, 0 make runs of
    1, 2, 0, 1, 2, 3, and `add` is true for the last one only.
    """

    limit: RepetitionStop
    runs: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, logprob: float, before: int = 0) -> bool:
        """Whether this token of response `name` makes its run as long as the limit. `before` is
        the run with which a response begins that was sampled up to here elsewhere."""
        certain = logprob > math.log(self.limit.probability)
        run = self.runs.get(name, before) + 1 if certain else 0
        self.runs[name] = run
        return run >= self.limit.tokens

    def forget(self, name: str) -> None:
        """Forget a response that ended; unknown ones are fine."""
        self.runs.pop(name, None)


def run_at_end(logprobs: Sequence[float], probability: float) -> int:
    """How many tokens at the end have p > `probability`."""
    least = math.log(probability)
    for count, logprob in enumerate(reversed(logprobs)):
        if not logprob > least:
            return count
    return len(logprobs)
