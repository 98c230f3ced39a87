"""Preference pairs from graded responses (long2short with DPO, Kimi k1.5 §2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..evaluation.records import Response
from ..problems.prompt import prompt_parts
from ..problems.types import ImageSource, Problem
from .distill_selection import longer_negatives, shortest


def preference_rows(
    problem: Problem, responses: Sequence[Response], images: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """One row per longer response: the shortest correct one is chosen, the longer one rejected.

    images   one path for each of the problem's images; a row holds them in prompt order
    """
    chosen = shortest(responses)
    if chosen is None:
        return
    parts = prompt_parts(problem)
    shown = [part for part in parts if isinstance(part, ImageSource)]
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "text": None}
        for part in parts
    ]
    for rejected in longer_negatives(chosen, responses):
        yield {
            "id": f"{problem.id}#{chosen.sample}>{rejected.sample}",
            "prompt": [{"role": "user", "content": content}],
            "chosen": [{"role": "assistant", "content": chosen.text}],
            "rejected": [{"role": "assistant", "content": rejected.text}],
            "images": [images[problem.images.index(image)] for image in shown],
            "problem_id": problem.id,
            "chosen_sample": chosen.sample,
            "chosen_tokens": chosen.tokens,
            "rejected_sample": rejected.sample,
            "rejected_tokens": rejected.tokens,
            "rejected_outcome": rejected.outcome.value,
        }
