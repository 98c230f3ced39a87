"""Demonstrations beside the rollouts: a supervised term that keeps the policy's language.

A demonstration travels as a group of one rollout, so that it is packed like all others; it has no
advantage, no engine and no reference (the PTX term of InstructGPT, arXiv 2203.02155, Eq. 2).
"""

from __future__ import annotations

from collections.abc import Sequence

from ...configs.errors import KVLError
from ...configs.rl import PTXConfig
from ...kimi_vl_model.processing import KimiVLProcessor
from ...problems.loading import load_problems
from ...problems.prompt import prompt_parts, target_text
from ...problems.types import Problem
from ...rollouts.types import Rollout, Segment, StopReason
from ..types import Group


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

    def at(self, step: int) -> list[Group]:
        """The documents of optimizer step `step`, counted over the whole run."""
        first = step * self.config.documents
        return [
            demonstration(self.problems[(first + n) % len(self.problems)], self.processor)
            for n in range(self.config.documents)
        ]


def demonstration(problem: Problem, processor: KimiVLProcessor) -> Group:
    """Prompt and written reply of a problem; raises ProblemError for one that cannot be used.

    Images are decoded by the pack that holds them, on the one rank that trains on it.
    """
    parts = [
        part if isinstance(part, str) else part.open(pixels=False) for part in prompt_parts(problem)
    ]
    text = target_text(problem)
    reply = tuple(processor.chat.assistant_reply(text))
    rollout = Rollout(
        problem_id=problem.id,
        sample=0,
        prompt_token_ids=processor.encode_prompt(parts).token_ids,
        response_token_ids=reply,
        logprobs=(0.0,) * len(reply),
        segments=(Segment(0, len(reply), 0),),
        stop_reason=StopReason.STOP,
        text=text,
    )
    return Group(problem, (rollout,), (), (0.0,), (0.0,))


def token_count(groups: Sequence[Group]) -> int:
    """Reply tokens of all documents."""
    return sum(len(r.response_token_ids) for group in groups for r in group.rollouts)
