"""Problems by index: which content, on which side of the split, and its drawing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal, get_args

from ..types import Problem, ProblemError
from . import arithmetic, bar_chart, compare, counting, figure_choice, triangle
from .family import LEVELS, Content, Family
from .writing import comma

Split = Literal["train", "heldout"]

_FAMILIES: dict[str, Family] = {
    "arithmetic": arithmetic,
    "counting": counting,
    "bar_chart": bar_chart,
    "compare": compare,
    "triangle": triangle,
    "figure_choice": figure_choice,
}
FAMILIES = tuple(_FAMILIES)

_HELDOUT_BUCKETS, _BUCKETS = 4, 16


def generate(
    split: Split,
    count: int,
    families: Sequence[str],
    levels: Sequence[int],
    seed: int,
    recheck_share: float = 0.0,
) -> Iterator[Problem]:
    """Yield `count` problems, taking turns through families (fastest) and levels.

    Problem number i depends on the split, the seed, i and its family and level, never on
    `count`. A `recheck_share` of the solutions goes over everything once more: overthinking,
    for reinforcement learning to weigh against a token budget. Small levels repeat a content
    with another drawing; train and heldout never share one.

    Raises `ProblemError` for an unknown split, family or level, a negative count or a share
    outside [0, 1].
    """
    if split not in get_args(Split):
        raise ProblemError(f"split {split!r}: choose one of {comma(get_args(Split))}")
    if count < 0:
        raise ProblemError(f"count {count}: must not be negative")
    for name, given, known in (("family", families, FAMILIES), ("level", levels, LEVELS)):
        unknown = [one for one in given if one not in known]
        if unknown or not given:
            what = repr(unknown[0]) if unknown else "none given"
            raise ProblemError(f"{name} {what}: choose from {comma(known)}")
    if not 0 <= recheck_share <= 1:
        raise ProblemError(f"recheck_share {recheck_share}: must lie between 0 and 1")
    turns = [(family, level) for level in levels for family in families]
    return (
        _problem(split, seed, index, *turns[index % len(turns)], recheck_share)
        for index in range(count)
    )


def split_of(family: str, level: int, content: Content) -> Split:
    """The side of a content, by a hash that is the same on every machine: a quarter is held out."""
    canonical = json.dumps([family, level, content], separators=(",", ":"))
    bucket = hashlib.sha256(canonical.encode()).digest()[0] % _BUCKETS
    return "heldout" if bucket < _HELDOUT_BUCKETS else "train"


def _problem(
    split: Split, seed: int, index: int, family: str, level: int, recheck_share: float
) -> Problem:
    rng = Random(f"{split}/{seed}/{index}/{family}/{level}")
    module = _FAMILIES[family]
    content = module.sample(level, rng)
    while split_of(family, level, content) != split:
        content = module.sample(level, rng)
    draft = module.build(level, content, rng)
    return Problem(
        id=f"{family}/l{level}/{split}-{index:06d}",
        question=draft.question,
        images=draft.images,
        answer=draft.answer,
        answer_type=draft.answer_type,
        options=draft.options,
        family=family,
        level=level,
        solution=draft.solution.text(rechecked=rng.random() < recheck_share),
        source="synthetic",
    )
