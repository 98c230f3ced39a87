"""What the engine returns → a `Rollout`, whole or the next piece of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .types import Rollout, Routes, Segment, StopReason

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput

# By what vLLM says; anything else (abort, error) did not come to an end of its own.
_REASONS: dict[str | None, StopReason] = {
    "stop": StopReason.STOP,
    "length": StopReason.LENGTH,
    "repetition": StopReason.REPETITION,
}


def rollout_of(
    output: RequestOutput,
    problem_id: str,
    sample: int,
    prompt_token_ids: tuple[int, ...],
    before: Rollout | None,
    decode: Callable[[Sequence[int]], str],
    dense_layers: int,
) -> Rollout:
    """The response so far: what `before` holds, and what the engine has just added to it.

    The engine's routes name all layers; the first `dense_layers` have no experts and are dropped.
    Raises RuntimeError if the engine answered to other ids than it was given.
    """
    earlier = before.response_token_ids if before else ()
    if output.prompt_token_ids != [*prompt_token_ids, *earlier]:
        raise RuntimeError(f"the engine changed the prompt ids of {problem_id}")
    completion: CompletionOutput = output.outputs[0]
    added = tuple(completion.token_ids)
    ids = earlier + added
    reason = _REASONS.get(completion.finish_reason, StopReason.ABORTED)
    segments = tuple(
        Segment(len(earlier) + span.start, len(earlier) + span.end, int(span.version))
        for span in completion.weight_versions or ()
    )
    return Rollout(
        problem_id=problem_id,
        sample=sample,
        prompt_token_ids=prompt_token_ids,
        response_token_ids=ids,
        logprobs=(before.logprobs if before else ()) + _sampled_logprobs(completion),
        segments=(before.segments if before else ()) + segments,
        stop_reason=reason,
        routes=_routes(completion, dense_layers),
        text=decode(ids[:-1] if reason is StopReason.STOP else ids),
    )


def _sampled_logprobs(completion: CompletionOutput) -> tuple[float, ...]:
    logprobs = completion.logprobs
    if logprobs is None:
        return ()
    # The first entry of every position is the sampled token.
    return tuple(logprobs.logprobs[start] for start in logprobs.start_indices)  # pyright: ignore


def _routes(completion: CompletionOutput, dense_layers: int) -> Routes | None:
    if completion.routed_experts is None:
        return None
    routed_TLk = completion.routed_experts[:, dense_layers:]
    _tokens, layers, experts = routed_TLk.shape
    return Routes(layers, experts, routed_TLk.astype("uint8").tobytes())
