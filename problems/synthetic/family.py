"""What a synthetic family has to offer: meaning first, then a drawing of it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from ..types import AnswerType, ImageSource
from .writing import Solution

# What a problem means, without its looks: numbers, strings and tuples of them. The split is
# decided on this alone, so two problems with equal content never sit on different sides.
Content = tuple[Any, ...]

LEVELS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Draft:
    """A drawn and solved problem that has no id yet."""

    question: str
    answer: str
    answer_type: AnswerType
    images: tuple[ImageSource, ...]
    solution: Solution
    options: tuple[str, ...] = ()


class Family(Protocol):
    """A module with these two functions is a family."""

    def sample(self, level: int, rng: Random) -> Content:
        """Draw a content of this level; answers are spread evenly where that is possible."""
        ...

    def build(self, level: int, content: Content, rng: Random) -> Draft:
        """Draw the content, ask about it and write its solution; `rng` decides only the looks."""
        ...
