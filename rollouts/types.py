"""What a rollout worker returns: sampled token ids, their log-probabilities and their origin."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..problems.types import ImageSource


class StopReason(StrEnum):
    STOP = "stop"  # a stop id was sampled; it is the last response token
    LENGTH = "length"  # cut by the token cap
    REPETITION = "repetition"  # cut by the repetition stop; wrong, and not continued
    ABORTED = "aborted"  # cut by the fleet (dead worker, shutdown); never trained on


@dataclass(frozen=True, slots=True)
class Segment:
    """Response tokens [start, stop) were sampled under `weight_version`."""

    start: int
    stop: int
    weight_version: int


@dataclass(frozen=True, slots=True)
class Routes:
    """The experts that the engine sent a sequence's tokens to, prompt first; layers are those with
    experts. Bytes, so that rollouts stay comparable: 26 layers × 6 experts are 156 a token.

    Example: two tokens, two layers, one expert each: `Routes(2, 1, bytes([7, 3, 7, 0]))` sends the
    second token to expert 7 of the first layer and to expert 0 of the second.

    data   uint8 [tokens, layers, experts] in C order; the last token of a sequence was sampled but
           never fed, and has no route
    """

    layers: int
    experts: int  # chosen per token
    data: bytes

    @property
    def tokens(self) -> int:
        return len(self.data) // (self.layers * self.experts)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled response, token ids in and token ids out; it is never re-tokenised.

    Example: prompt (5, 9, 9, 7), response (12, 3, 1), logprobs (-.1, -2.3, -.01),
    segments (Segment(0, 3, 4),): all three tokens came from weight version 4.

    prompt_token_ids    with expanded `<|media_pad|>` runs, one id per image token
    response_token_ids  including the closing stop token when there is one
    logprobs            natural log, of the distribution really sampled from (after temperature
                        and banned ids), one per response token
    text                the decoded response, for the grader and for people only
    routes              of prompt and response, where the engine returns them; what is continued
                        has those of its newest piece's weights throughout
    """

    problem_id: str
    sample: int
    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    segments: tuple[Segment, ...]
    stop_reason: StopReason
    text: str
    routes: Routes | None = None

    def __post_init__(self) -> None:
        if len(self.logprobs) != len(self.response_token_ids):
            raise ValueError(
                f"rollout {self.problem_id}#{self.sample}: {len(self.logprobs)} log-probs for "
                f"{len(self.response_token_ids)} tokens"
            )
        tokens = len(self.prompt_token_ids) + len(self.response_token_ids)
        if self.routes is not None and self.routes.tokens != tokens - 1:
            raise ValueError(
                f"rollout {self.problem_id}#{self.sample}: routes of {self.routes.tokens} tokens "
                f"for {tokens}, of which all but the last are routed"
            )

    @property
    def weight_versions(self) -> tuple[int, int]:
        """(oldest, newest) weight version; raises ValueError on an empty response."""
        versions = [segment.weight_version for segment in self.segments]
        return min(versions), max(versions)


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """One problem to sample: its user turn as text and images in order.

    Example: `RolloutRequest("arithmetic/l1/7", ("What is shown?\\n", ImageSource(path=...)))`.

    continued   unfinished rollouts to go on from, token by token, instead of sampling new ones
    """

    problem_id: str
    parts: tuple[str | ImageSource, ...]
    continued: tuple[Rollout, ...] = ()


@dataclass(frozen=True, slots=True)
class RolloutFailure:
    """A problem that could not be sampled, and why; the rest of its batch goes on."""

    problem_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How one batch of responses is sampled. `temperature` 0 means greedy.

    max_response_tokens   at most so many new tokens
    seed              every sample has random numbers of its own, the same in every run and in
                      whichever engine; None: those of the engine, which is seeded once, at its
                      start, and samples faster so
    max_total_tokens  of a response that is continued, earlier tokens included; None: no more than
                      the new ones
    response_prefix   assistant text that the model is given and goes on from; its ids are the last
                      of the prompt ids, and no part of the response
    """

    samples: int = 1
    temperature: float = 1.0
    max_response_tokens: int = 128
    seed: int | None = None
    response_prefix: str = ""
    max_total_tokens: int | None = None

    def new_tokens(self, before: Rollout | None) -> int:
        """How many tokens a response may get now."""
        if before is None or self.max_total_tokens is None:
            return self.max_response_tokens
        room = self.max_total_tokens - len(before.response_token_ids)
        return min(self.max_response_tokens, room)
