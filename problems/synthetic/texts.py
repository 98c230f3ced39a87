"""Everything the synthetic problems say, for a tokenizer that is to know it."""

from __future__ import annotations

from collections.abc import Iterator

from ..prompt import prompt_parts, target_text
from .generator import FAMILIES, generate


def written_texts() -> Iterator[str]:
    """Prompts and written replies of some problems of each family and level, always the same."""
    for problem in generate("train", 2400, FAMILIES, (1, 2, 3, 4), seed=0):
        yield "".join(part for part in prompt_parts(problem) if isinstance(part, str))
        yield target_text(problem)
    yield from ("You are a helpful assistant", "system", "user", "assistant", "image") * 100
