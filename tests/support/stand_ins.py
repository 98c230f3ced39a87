"""The fleet and the learner's ranks in the test's own process: no Ray, no vLLM, the same numbers.

`TinyFleet` samples from the tiny model itself, so its log-probabilities are the learner's as long
as both hold the same weights. It keeps what the real fleet promises: seeds per problem and sample
if it is asked for them, banned ids, stop ids, continued responses, and a weight version on every
token.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import torch
from kvl.configs.rl import RLConfig
from kvl.configs.rollout import RolloutConfig
from kvl.kimi_vl_model.checkpoint import (
    export_checkpoint,
    load_model,
    persistent_state,
    published_tensors,
)
from kvl.kimi_vl_model.logprobs import token_logprobs
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.tokenization import banned_ids, stop_ids
from kvl.problems.prompt import prompt_parts, target_text
from kvl.problems.types import Problem, ProblemError
from kvl.rl.learner.learner import Learner
from kvl.rl.learner.parallelism import RankAddress
from kvl.rollouts.engine_input import Prompt, PromptImage, prepare
from kvl.rollouts.types import (
    Rollout,
    RolloutFailure,
    RolloutRequest,
    SamplingSettings,
    Segment,
    StopReason,
)
from kvl.rollouts.weights.weight_buckets import read_bucket
from kvl.rollouts.worker import sample_seed

StandIn = TypeVar("StandIn")
Results = tuple[list[Rollout], list[RolloutFailure]]


@dataclass(slots=True)
class _Response:
    """One response while it is sampled."""

    problem_id: str
    sample: int
    prompt: Prompt
    before: Rollout | None
    room: int
    random: torch.Generator
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def sequence(self) -> list[int]:
        return [*self.prompt.token_ids, *(self.before.response_token_ids if self.before else ()),
                *self.tokens]  # fmt: skip

    @property
    def goes_on(self) -> bool:
        return not self.stopped and len(self.tokens) < self.room


class TinyFleet:
    """What the loop and evaluation need of `kvl.rollouts.fleet.Fleet`."""

    def __init__(
        self,
        checkpoint: str | Path,
        config: RolloutConfig,
        seed: int = 0,
        learner_ranks: int = 0,
    ) -> None:
        self.config = config
        self.placement = None
        self.model = load_model(checkpoint).eval()
        self.processor = KimiVLProcessor.from_pretrained(checkpoint)
        self._banned = torch.tensor(banned_ids(self.processor.tokenizer))
        self._stops = set(stop_ids(self.processor.tokenizer))
        self._version, self._random = 0, random.Random(seed)
        self.is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def shutdown(self) -> None:
        self.is_open = False

    # -- sampling ------------------------------------------------------------------------------

    def generate(
        self,
        problems: Sequence[Problem],
        settings: SamplingSettings,
        continued: Sequence[tuple[Problem, tuple[Rollout, ...]]] = (),
    ) -> Results:
        return self.collect(self.submit(problems, settings, continued))

    def sample_everywhere(
        self, problems: Sequence[Problem], settings: SamplingSettings
    ) -> list[list[Rollout]]:
        return [self.generate(problems, settings)[0]]

    def collect(self, sampling: Results) -> Results:
        return sampling

    def submit(
        self,
        problems: Sequence[Problem],
        settings: SamplingSettings,
        continued: Sequence[tuple[Problem, tuple[Rollout, ...]]] = (),
    ) -> Results:
        responses: list[_Response] = []
        failures: list[RolloutFailure] = []
        for problem, before in [*((problem, ()) for problem in problems), *continued]:
            try:
                request = RolloutRequest(problem.id, prompt_parts(problem), before)
                responses += self._responses(request, settings)
            except ProblemError as error:
                failures.append(RolloutFailure(problem.id, str(error)))
        while running := [response for response in responses if response.goes_on]:
            self._next_tokens(running, settings.temperature)
        return [self._rollout(response) for response in responses], failures

    def _responses(
        self, request: RolloutRequest, settings: SamplingSettings
    ) -> Iterator[_Response]:
        limit = self.config.engine.max_model_len
        prompt = prepare(request, settings, self.processor, limit, torch.float32)
        own = [(one.sample, one) for one in request.continued]
        for sample, before in own or [(number, None) for number in range(settings.samples)]:
            seed = sample_seed(settings.seed, request.problem_id, sample)
            if seed is None:
                seed = self._random.getrandbits(48)
            done = len(before.response_token_ids) if before else 0
            yield _Response(
                request.problem_id,
                sample,
                prompt,
                before,
                settings.new_tokens(before),
                torch.Generator().manual_seed(seed + done),
            )

    @torch.no_grad()
    def _next_tokens(self, running: Sequence[_Response], temperature: float) -> None:
        """One more token for each, from one packed forward pass."""
        sequences = [torch.tensor(response.sequence) for response in running]
        hidden = self.model.hidden_states(
            torch.cat(sequences)[None],
            torch.cat([torch.arange(len(sequence)) for sequence in sequences])[None],
            **_features([image for one in running for image in one.prompt.images]),  # pyright: ignore
        )[0]
        ends = torch.tensor([len(sequence) for sequence in sequences]).cumsum(0) - 1
        weight = self.model.language_model.lm_head.weight
        logits = (hidden[ends] @ weight.T).float()
        logits[:, self._banned] = -torch.inf
        if temperature == 0:
            chosen = logits.argmax(-1)
        else:
            shares = (logits / temperature).softmax(-1)
            draws = [torch.multinomial(share, 1, generator=response.random)
                     for share, response in zip(shares, running, strict=True)]  # fmt: skip
            chosen = torch.cat(draws)
        logprobs, _entropy = token_logprobs(
            hidden[ends], weight, chosen, banned_ids=self._banned, temperature=temperature or 1.0
        )
        for response, token, logprob in zip(
            running, chosen.tolist(), logprobs.tolist(), strict=True
        ):
            response.tokens.append(token)
            response.logprobs.append(logprob)
            response.stopped = token in self._stops

    def _rollout(self, response: _Response) -> Rollout:
        before = response.before
        start = len(before.response_token_ids) if before else 0
        ids = (before.response_token_ids if before else ()) + tuple(response.tokens)
        return Rollout(
            problem_id=response.problem_id,
            sample=response.sample,
            prompt_token_ids=tuple(response.prompt.token_ids),
            response_token_ids=ids,
            logprobs=(before.logprobs if before else ()) + tuple(response.logprobs),
            segments=(before.segments if before else ())
            + (Segment(start, len(ids), self._version),),
            stop_reason=StopReason.STOP if response.stopped else StopReason.LENGTH,
            text=self.processor.tokenizer.decode(ids[:-1] if response.stopped else ids),
        )

    # -- weights -------------------------------------------------------------------------------

    def sync_weights(self, updates: Iterable[dict[str, Any]], version: int) -> None:
        for update in updates:
            self.load(update)
        self._version = version

    def load(self, update: dict[str, Any]) -> None:
        """One bucket; tensors come under their published names."""
        own = dict(published_tensors(persistent_state(self.model)))
        for name, tensor in read_bucket(update):
            own[name].copy_(tensor)

    def weight_versions(self) -> list[int]:
        return [self._version]


class LocalLearner:
    """One rank, called as `LearnerGroup` is."""

    def __init__(self, config: RLConfig, placement: object = None) -> None:
        self.rank = Learner(config, RankAddress(0, 1, "", 0))
        self.take, self.update = self.rank.take, self.rank.update
        self.score, self.export = self.rank.score, self.rank.export
        self.save_state, self.load_state = self.rank.save_state, self.rank.load_state
        self.is_open = True

    def weights(self) -> Iterator[dict[str, Any]]:
        while (bucket := self.rank.next_weights()) is not None:
            yield bucket

    def close(self) -> None:
        self.is_open = False


def stand_in(
    patch: pytest.MonkeyPatch, original: type, make: Callable[..., StandIn]
) -> list[StandIn]:
    """Who opens an `original` from now on gets what `make` makes of the same arguments, whatever
    module has imported the class. Returns the list of those opened so far."""
    opened: list[StandIn] = []

    def initialise(self: Any, *arguments: Any, **named: Any) -> None:
        one = make(*arguments, **named)
        opened.append(one)
        # Attributes of an object come before the methods of its class.
        vars(self).update({name: getattr(one, name) for name in dir(one) if name[:2] != "__"})

    patch.setattr(original, "__init__", initialise)
    return opened


def teach(folder: Path, problems: Sequence[Problem], endings: Sequence[str], steps: int) -> None:
    """A few supervised steps on the checkpoint in `folder`: short answers with one of `endings`,
    in the right format and some of them right."""
    model = load_model(folder).train()
    processor = KimiVLProcessor.from_pretrained(folder)
    optimizer = torch.optim.Adam(model.parameters())
    end = min(stop_ids(processor.tokenizer))
    for step in range(steps):
        problem = problems[step % len(problems)]
        problem = replace(
            problem, solution=f"It is {problem.answer}.{endings[step % len(endings)]}"
        )
        request = RolloutRequest(problem.id, prompt_parts(problem))
        prompt = prepare(request, SamplingSettings(), processor, 4096, torch.float32)
        reply = [*processor.chat.text(target_text(problem)), end]
        features = _features(prompt.images)
        ids = torch.tensor([prompt.token_ids + reply])
        labels = torch.tensor([[-100] * len(prompt.token_ids) + reply])
        model(ids, labels=labels, **features).loss.backward()
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
    source = folder.rename(folder.with_name("untaught"))
    export_checkpoint(persistent_state(model), source, folder)


def _features(images: Sequence[PromptImage]) -> dict[str, torch.Tensor]:
    if not images:
        return {}
    return {
        "pixel_values": torch.cat([image.pixel_values for image in images]),
        "image_grid_hws": torch.stack([image.grid for image in images]),
    }
