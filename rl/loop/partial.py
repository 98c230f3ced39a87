"""Partial rollouts: responses that an iteration's token cap cut and a later iteration goes on with.

Kimi k1.5 §2.6. Length, reward and group statistics exist only when all k responses of a problem
are finished, so a group waits for its longest one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ...problems.types import Problem
from ...rollouts.types import Rollout, Segment, StopReason


class PartialRollouts:
    """The groups that wait, with all their responses, finished or not.

    Example: with max_total_tokens 100, a response cut at 40 tokens is unfinished, one cut at 100
    is finished and counts as truncated.
    """

    def __init__(self, max_total_tokens: int) -> None:
        self.max_total_tokens = max_total_tokens
        self.waiting: dict[str, tuple[Problem, tuple[Rollout, ...]]] = {}

    def __len__(self) -> int:
        return len(self.waiting)

    def unfinished(self) -> list[tuple[Problem, tuple[Rollout, ...]]]:
        """What to go on with: the unfinished responses of every waiting problem."""
        return [
            (problem, tuple(r for r in rollouts if self._goes_on(r)))
            for problem, rollouts in self.waiting.values()
        ]

    def take(
        self, problems: Sequence[Problem], rollouts: Iterable[Rollout]
    ) -> tuple[list[Problem], list[Rollout]]:
        """Put in what was just sampled; get the problems whose responses are all finished.

        `problems` are the newly asked ones. Waiting groups come first, oldest first.
        """
        newest: dict[str, dict[int, Rollout]] = {}
        for rollout in rollouts:
            newest.setdefault(rollout.problem_id, {})[rollout.sample] = rollout
        groups = dict(self.waiting)
        groups |= {problem.id: (problem, ()) for problem in problems if problem.id in newest}
        self.waiting = {}
        complete: list[Problem] = []
        finished: list[Rollout] = []
        for name, (problem, earlier) in groups.items():
            merged = {rollout.sample: rollout for rollout in earlier} | newest.get(name, {})
            responses = tuple(merged[sample] for sample in sorted(merged))
            if any(self._goes_on(rollout) for rollout in responses):
                self.waiting[name] = (problem, responses)
            else:
                complete.append(problem)
                finished += responses
        return complete, finished

    def drop(self, problem_id: str) -> None:
        self.waiting.pop(problem_id, None)

    def _goes_on(self, rollout: Rollout) -> bool:
        cut = rollout.stop_reason is StopReason.LENGTH
        return cut and len(rollout.response_token_ids) < self.max_total_tokens

    def state_dict(self) -> list[dict[str, Any]]:
        """JSON: every response of every waiting group, without routes: a finished response of a
        restored group is routed by the learner, an unfinished one gets new routes anyway."""
        return [
            asdict(replace(r, routes=None))
            for _, rollouts in self.waiting.values()
            for r in rollouts
        ]

    def load_state_dict(
        self, state: Iterable[Mapping[str, Any]], problems: Mapping[str, Problem]
    ) -> None:
        """A group whose problem is no longer among `problems` is forgotten."""
        self.waiting = {}
        for saved in state:
            rollout = Rollout(
                **{
                    **saved,
                    "prompt_token_ids": tuple(saved["prompt_token_ids"]),
                    "response_token_ids": tuple(saved["response_token_ids"]),
                    "logprobs": tuple(saved["logprobs"]),
                    "segments": tuple(Segment(**segment) for segment in saved["segments"]),
                    "stop_reason": StopReason(saved["stop_reason"]),
                }
            )
            if (problem := problems.get(rollout.problem_id)) is not None:
                _, earlier = self.waiting.get(problem.id, (problem, ()))
                self.waiting[problem.id] = (problem, (*earlier, rollout))
