"""Demonstrations beside the rollouts: a supervised term that keeps the policy's language.

A demonstration is packed like a rollout; it has no advantage, no engine and no reference (the PTX
term of InstructGPT, arXiv 2203.02155, Eq. 2).
"""

from __future__ import annotations

from ...configs.errors import KVLError
from ...configs.rl import PTXConfig
from ...kimi_vl_model.processing import KimiVLProcessor
from ...problems.loading import load_problems
from ...problems.prompt import prompt_parts, target_text
from ...problems.types import ImageSource, Problem
from .batch import TokenSequence


class Demonstrations:
    """The documents of `ptx.problems`, taken in turn: step n gets the same ones in every run."""

    def __init__(self, config: PTXConfig, processor: KimiVLProcessor) -> None:
        """Raises KVLError when no problem has a written solution."""
        problems, _skipped = load_problems(config.problems)
        self.problems = [problem for problem in problems if (problem.solution or "").strip()]
        if not self.problems:
            raise KVLError(f"{config.problems.path}: no problem with a written solution for ptx")
        self.config = config
        self.processor = processor

    def at(self, step: int) -> list[TokenSequence]:
        """The documents of optimizer step `step`, counted over the whole run."""
        first = step * self.config.documents
        return [
            demonstration(self.problems[(first + n) % len(self.problems)], self.processor)
            for n in range(self.config.documents)
        ]


def demonstration(problem: Problem, processor: KimiVLProcessor) -> TokenSequence:
    """Prompt and written reply of a problem; raises ProblemError for one that cannot be used.

    Images are decoded by the pack that holds them, on the one rank that trains on it.
    """
    parts = prompt_parts(problem)
    images = tuple(part for part in parts if isinstance(part, ImageSource))
    sized = [part if isinstance(part, str) else part.open(pixels=False) for part in parts]
    reply = tuple(processor.chat.assistant_reply(target_text(problem)))
    return TokenSequence(
        prompt_token_ids=processor.encode_prompt(sized).token_ids,
        response_token_ids=reply,
        images=images,
        engine_logprobs=(0.0,) * len(reply),
    )
