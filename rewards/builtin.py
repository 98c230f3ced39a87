"""The rewards that come with the project: accuracy, length control, format, repetition.

Each has a strict `Config` and `grade(batch)`, which gives every sample of one problem a value
before weighting. Plugins have the same shape (docs/rewards.md).
"""

from __future__ import annotations

from math import ceil
from typing import Any

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from ..configs.base import StrictModel
from ..problems.types import AnswerType
from .format import has_format
from .length import length_rewards, overlong_penalty
from .repetition import repeated_share
from .types import RewardBatch


class Accuracy:
    """1 for a correct response, 0 for any other (and for one cut by the token cap)."""

    class Config(StrictModel):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def grade(self, batch: RewardBatch) -> list[float]:
        return [float(sample.correct) for sample in batch.samples]


class Length:
    """Shorter than the group's others gains, longer loses (Kimi k1.5 §2.3.3)."""

    class Config(StrictModel):
        min_spread: NonNegativeInt = Field(
            default=0, description="a spread of at most this many tokens means nothing"
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def grade(self, batch: RewardBatch) -> list[float]:
        return length_rewards(
            [sample.tokens for sample in batch.samples],
            [sample.correct for sample in batch.samples],
            self.config.min_spread,
        )


class Overlong:
    """0 up to max_tokens - cache_tokens, then linear to -1 at max_tokens (DAPO)."""

    class Config(StrictModel):
        max_tokens: PositiveInt = Field(description="where the penalty reaches -1")
        cache_tokens: PositiveInt = Field(description="over how many tokens it grows")

        @model_validator(mode="after")
        def _fits(self) -> Overlong.Config:
            if self.cache_tokens > self.max_tokens:
                raise ValueError(
                    f"cache_tokens ({self.cache_tokens}) must not exceed max_tokens "
                    f"({self.max_tokens})"
                )
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def grade(self, batch: RewardBatch) -> list[float]:
        config = self.config
        return [
            overlong_penalty(sample.tokens, config.max_tokens, config.cache_tokens)
            for sample in batch.samples
        ]


class Budget:
    """-1 for a response over its token budget or cut (Kimi K2, arXiv 2507.20534)."""

    class Config(StrictModel):
        tokens: PositiveInt = Field(description="budget of a response")
        by_answer_type: dict[AnswerType, PositiveInt] = Field(
            default={}, description="other budgets by answer type, such as {choice: 512}"
        )

    def __init__(self, config: Config) -> None:
        self.config = config

    def grade(self, batch: RewardBatch) -> list[float]:
        budgets = self.config.by_answer_type
        return [
            -float(s.truncated or s.tokens > budgets.get(s.answer_type, self.config.tokens))
            for s in batch.samples
        ]


class Toggle:
    """Takes correctness away from responses over their problem's budget, in every other phase.

    In even phases a correct response over the budget gets -1, which cancels its accuracy, unless
    the group's mean accuracy is below `min_accuracy`; odd phases change nothing. The budget is the
    `percentile` of the correct lengths of the first group that had any (Kimi K2.5, arXiv
    2602.02276).
    """

    class Config(StrictModel):
        period: PositiveInt = Field(default=10, description="iterations of a phase")
        percentile: float = Field(default=0.5, gt=0, le=1)
        min_accuracy: float = Field(default=0.5, ge=0, le=1)

    def __init__(self, config: Config) -> None:
        self.config = config
        self._budgets: dict[str, int] = {}

    def grade(self, batch: RewardBatch) -> list[float]:
        samples = batch.samples
        correct = sorted(sample.tokens for sample in samples if sample.correct)
        if not correct:
            return [0.0] * len(samples)
        rank = ceil(self.config.percentile * len(correct)) - 1
        budget = self._budgets.setdefault(samples[0].problem_id, correct[rank])
        unlimited = batch.iteration // self.config.period % 2 == 1
        if unlimited or len(correct) / len(samples) < self.config.min_accuracy:
            return [0.0] * len(samples)
        return [-float(sample.correct and sample.tokens > budget) for sample in samples]

    def state_dict(self) -> dict[str, Any]:
        return {"budgets": dict(self._budgets)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._budgets = dict(state["budgets"])


class Format:
    """1 for one thinking section that is not empty and an answer after it, else 0."""

    class Config(StrictModel):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def grade(self, batch: RewardBatch) -> list[float]:
        return [
            float(has_format(sample.response) and not sample.truncated) for sample in batch.samples
        ]


class Repetition:
    """Minus the share of n-grams that the response has said before."""

    class Config(StrictModel):
        ngram: int = Field(default=8, ge=2, description="words (or Chinese characters) of a phrase")

    def __init__(self, config: Config) -> None:
        self.config = config

    def grade(self, batch: RewardBatch) -> list[float]:
        return [-repeated_share(s.response, self.config.ngram) for s in batch.samples]


BUILTIN: dict[str, type] = {
    "accuracy": Accuracy,
    "length": Length,
    "overlong": Overlong,
    "budget": Budget,
    "toggle": Toggle,
    "format": Format,
    "repetition": Repetition,
}
