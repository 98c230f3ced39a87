"""Sampling and grading a set of problems: what eval, rate, curate and distill have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..configs.rl import GraderConfig
from ..configs.rollout import RolloutConfig
from ..problems.types import Problem
from ..rewards.grader import Grader
from ..rewards.types import Strictness
from ..rollouts.fleet import Fleet
from ..rollouts.types import RolloutFailure, SamplingSettings
from ..run_files.identity import Identity, digest
from .grading import grade_rollouts
from .records_file import RecordsFile
from .types import Group

# A chunk is this many times what the engines hold at once: few enough to lose little to a kill.
ENGINE_LOADS_PER_CHUNK = 2
# While the last responses of one chunk are sampled, the next one fills the engines.
CHUNKS_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How the problems of a file are sampled and graded.

    passes  each problem is sampled in each of them: at most one greedy, at most one not
    given   text that a response is graded behind, because the prompt already ended with the like
    """

    checkpoint: Path
    problems: Path
    passes: tuple[SamplingSettings, ...]
    rollout: RolloutConfig
    grading: GraderConfig
    strictness: Strictness = Strictness.RL
    given: str = ""

    def identity(self, **further: Any) -> Identity:
        """What records are held to. The checkpoint may be moved, its weights may not change.

        Raises FileError if the checkpoint cannot be read.
        """
        drawn = [one for one in self.passes if one.temperature > 0]
        first = self.passes[0]
        stop = self.rollout.repetition_stop
        settings = {
            "checkpoint": str(self.checkpoint.absolute()),
            "problems": str(self.problems.absolute()),
            "greedy": len(drawn) < len(self.passes),
            "samples": drawn[0].samples if drawn else 0,
            "temperature": drawn[0].temperature if drawn else 0.0,
            "max_response_tokens": first.max_response_tokens,
            "seed": first.seed or 0,
            "response_prefix": first.response_prefix,
            "repetition_stop": None if stop is None else stop.model_dump(mode="json"),
            "dtype": self.rollout.engine.dtype,
            "strictness": self.strictness.value,
        }
        return Identity({**settings, **further}, {"checkpoint": digest(self.checkpoint)})


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some of the problems: a group for each that was sampled in all passes, a failure for each
    other."""

    problems: Sequence[Problem]
    groups: list[Group]
    failures: list[RolloutFailure]


def sample_missing(
    plan: Plan, problems: Sequence[Problem], records: RecordsFile, doing: str, done: str
) -> list[RolloutFailure]:
    """Sample and grade what `records` lacks of the problems, a chunk at a time; returns what could
    not be sampled. Engines start only if something is missing.

    Raises WorkerError when a rollout worker died.

    doing, done   for messages, as "rating" and "rated"
    """
    missing = [problem for problem in problems if problem not in records]
    if len(missing) < len(problems):
        count = f"{len(problems) - len(missing)} of {len(problems)} problems are {done} already"
        Console().print(count, soft_wrap=True)
    failures: list[RolloutFailure] = []
    if missing:
        with (
            Fleet(plan.checkpoint, plan.rollout, seed=plan.passes[0].seed or 0) as fleet,
            Grader(plan.grading.workers, plan.grading.timeout_seconds, plan.strictness) as grader,
        ):
            passes, rollout, given = plan.passes, plan.rollout, plan.given
            chunks = graded_chunks(fleet, grader, missing, passes, rollout, given)
            for chunk in with_progress(chunks, len(missing), doing):
                records.append(chunk.groups)
                failures += chunk.failures
    records.tidy()
    return failures


def graded_chunks(
    fleet: Fleet,
    grader: Grader,
    problems: Sequence[Problem],
    passes: Sequence[SamplingSettings],
    rollout: RolloutConfig,
    given: str = "",
) -> Iterator[Chunk]:
    """All problems sampled in all passes and graded; chunks in order. The engines go on while the
    caller is at work with a chunk."""
    at_once = rollout.workers * rollout.engine.max_num_seqs * ENGINE_LOADS_PER_CHUNK
    size = max(rollout.workers, at_once // sum(one.samples for one in passes))
    # A deterministic engine must not mix requests: what it samples would depend on the clock.
    in_flight = 1 if rollout.engine.deterministic else CHUNKS_IN_FLIGHT * len(passes)
    parts = [problems[start : start + size] for start in range(0, len(problems), size)]
    submitted = (fleet.submit(part, how) for part in parts for how in passes)
    under_way = deque(islice(submitted, in_flight))
    for part in parts:
        failed: dict[str, RolloutFailure] = {}
        sampled = []
        for _ in passes:
            rollouts, failures = fleet.collect(under_way.popleft())
            under_way.extend(islice(submitted, 1))
            sampled.append(rollouts)
            failed |= {failure.problem_id: failure for failure in failures}
        usable = [problem for problem in part if problem.id not in failed]
        graded = [
            grade_rollouts(
                grader,
                usable,
                [one for one in rollouts if one.problem_id not in failed],
                how.temperature,
                given,
            )
            for how, rollouts in zip(passes, sampled, strict=True)
        ]
        yield Chunk(part, _joined(graded), list(failed.values()))


def with_progress(chunks: Iterator[Chunk], total: int, doing: str) -> Iterator[Chunk]:
    """The same chunks under a progress bar; plain lines in a log file."""
    console = Console(stderr=True)
    with Progress(
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # A chunk may take minutes; the usual 30 s window would see none of them.
        speed_estimate_period=3600,
    ) as progress:
        bar = progress.add_task("", total=total)
        done = 0
        for chunk in chunks:
            yield chunk
            progress.advance(bar, len(chunk.problems))
            done += len(chunk.problems)
            if not console.is_terminal:
                console.print(f"{doing} {done}/{total}")


def _joined(passes: Sequence[Sequence[Group]]) -> list[Group]:
    """One group per problem of the groups of all passes, in the order of the first."""
    by_id: dict[str, Group] = {}
    for groups in passes:
        for group in groups:
            before = by_id[group.problem.id].responses if group.problem.id in by_id else ()
            by_id[group.problem.id] = Group((*before, *group.responses))
    return list(by_id.values())
