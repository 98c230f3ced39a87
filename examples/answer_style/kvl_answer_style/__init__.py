"""Two small rewards, one of each shape that kvl-rl takes.

`Brevity` is an object with a typed config that sees a problem's samples together; `same_language`
is a function of one sample, async as one that asks a service would be.
"""

from __future__ import annotations

import asyncio
import re

from kvl.configs.base import StrictModel
from kvl.rewards.types import RewardBatch, Sample
from pydantic import PositiveInt

_CHINESE = re.compile(r"[一-鿿]")
_CLOSING = "◁/think▷"


class Brevity:
    """1 for an answer of at most max_words words after the thinking, less for longer ones."""

    class Config(StrictModel):
        max_words: PositiveInt = 8

    def __init__(self, config: Config) -> None:
        self.config = config

    def grade(self, batch: RewardBatch) -> list[float]:
        return [self._score(sample) for sample in batch.samples]

    def _score(self, sample: Sample) -> float:
        words = len(answer_text(sample.response).split())
        return min(1.0, self.config.max_words / words) if words else 0.0


async def same_language(sample: Sample, *, pause_seconds: float = 0.0) -> float:
    """1 if question and answer are both Chinese or both not; the pause stands for a service."""
    await asyncio.sleep(pause_seconds)
    asked = _CHINESE.search(sample.question) is not None
    said = _CHINESE.search(answer_text(sample.response)) is not None
    return float(asked == said)


def answer_text(response: str) -> str:
    """What follows the thinking, without the end-of-turn token."""
    return response.rpartition(_CLOSING)[2].replace("<|im_end|>", "").strip()
