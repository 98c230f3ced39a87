"""Problems → rollouts → verdicts → groups: the first half of an iteration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...configs.errors import KVLError
from ...configs.rl import RLConfig
from ...evaluation.grading import grade_rollouts
from ...evaluation.types import Group
from ...problems.types import Problem
from ...rewards.combine import Rewards
from ...rewards.grader import Grader
from ...rollouts.fleet import Fleet
from ...rollouts.types import Rollout, RolloutFailure, SamplingSettings
from ...run_files.recorder import Recorder
from ..choosing.chooser import ProblemChooser
from ..schedule import max_response_tokens, temperature
from .groups import measured_from_baseline, rewarded
from .partial import PartialRollouts


@dataclass(slots=True)
class Collected:
    """What an iteration sampled, and what of it is trained on.

    groups         every group that was graded
    trained        those whose responses have advantages and that are not left out as degenerate
    new_tokens     sampled now, also by responses that still wait
    refills        further rounds that degenerate groups took
    waiting        groups with a response that goes on in the next iteration
    """

    groups: list[Group] = field(default_factory=list)
    trained: list[Group] = field(default_factory=list)
    failures: list[RolloutFailure] = field(default_factory=list)
    new_tokens: int = 0
    refills: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Collector:
    """k responses to each of an iteration's problems, graded and grouped."""

    config: RLConfig
    chooser: ProblemChooser
    fleet: Fleet
    grader: Grader
    rewards: Rewards
    recorder: Recorder
    partial: PartialRollouts

    def collect(self, iteration: int) -> Collected:
        """With `rollout.degenerate_groups: refill` (DAPO's dynamic sampling, arXiv 2503.14476),
        groups whose samples are all right or all wrong are left out and other problems take their
        place, for at most `rollout.max_refills` further rounds; if no other group is found, the
        iteration goes on with them. With `rollout.truncated: continue`, responses cut by the
        iteration's cap go on under the next weights, and their group waits in `partial`; if all
        groups wait, this iteration goes on with them.

        Raises KVLError when no problem could be rolled out.
        """
        refill = self.config.rollout.degenerate_groups == "refill"
        wanted = self.config.rollout.problems_per_iteration
        result = Collected()
        left_out: list[Group] = []
        for round_number in range(rounds(self.config, iteration)):
            result.refills = round_number
            room = wanted - len(result.trained) - len(self.partial)
            problems, rollouts = self._sample(max(room, 0), iteration, round_number, result)
            groups = self._grade(problems, rollouts, iteration)
            result.groups += groups
            for group in groups:
                if group.trained:
                    (left_out if refill and group.degenerate else result.trained).append(group)
            if len(result.trained) >= (wanted if refill else 1):
                break
        result.trained = result.trained or left_out[:wanted]
        result.waiting = len(self.partial)
        if not result.groups and not result.waiting:
            raise KVLError(
                f"iteration {iteration}: none of {len(result.failures)} problems could be rolled "
                f"out; {self.recorder.run_dir / 'failures.jsonl'} says why"
            )
        return result

    def _sample(
        self, room: int, iteration: int, round_number: int, result: Collected
    ) -> tuple[list[Problem], list[Rollout]]:
        """The problems whose responses are all finished, and these; `room` new ones are asked."""
        with self.recorder.stage("rollout"):
            problems = self.chooser.next(room, iteration) if room else []
            problems = [one for one in problems if one.id not in self.partial.waiting]
            unfinished = self.partial.unfinished()
            rollouts, failures = self.fleet.generate(
                problems, sampling(self.config, iteration, round_number), unfinished
            )
            before = (rollout for _, waiting in unfinished for rollout in waiting)
            result.new_tokens += _tokens(rollouts) - _tokens(
                [one for one in before if one.problem_id not in {f.problem_id for f in failures}]
            )
            problems, rollouts = self.partial.take(problems, rollouts)
        # At once: what cannot be rolled out must not be asked for again in the next round.
        for failure in failures:
            self.chooser.exclude(failure.problem_id)
            self.partial.drop(failure.problem_id)
            self.recorder.failure(iteration, failure.problem_id, failure.reason)
        result.failures += failures
        return problems, rollouts

    def _grade(
        self, problems: Sequence[Problem], rollouts: Sequence[Rollout], iteration: int
    ) -> list[Group]:
        mask = self.config.rollout.truncated == "mask"
        with self.recorder.stage("grade"):
            groups = grade_rollouts(
                self.grader, problems, rollouts, temperature(self.config, iteration)
            )
            self.chooser.update(
                {group.problem.id: s for group in groups if (s := group.accuracy) is not None}
            )
            groups = rewarded(groups, self.rewards, iteration, mask)
            return measured_from_baseline(groups, self.config.objective, mask)


def rounds(config: RLConfig, iteration: int) -> int:
    """At most so many calls of the fleet: refills, or until the longest response is finished."""
    rollout = config.rollout
    if rollout.max_total_tokens is not None:
        return -(-rollout.max_total_tokens // max_response_tokens(config, iteration))
    return 1 + (rollout.max_refills if rollout.degenerate_groups == "refill" else 0)


def sampling(config: RLConfig, iteration: int, round_number: int = 0) -> SamplingSettings:
    seed = None  # the engines' own random numbers; a generator per request slows sampling
    if config.rollout.engine.deterministic:
        # A further round goes on with the same samples: it needs random numbers of its own.
        seed = config.seed * 1_000_003 + iteration + round_number * 1_000_000_007
    return SamplingSettings(
        samples=config.rollout.samples_per_problem,
        temperature=temperature(config, iteration),
        max_response_tokens=max_response_tokens(config, iteration),
        seed=seed,
        max_total_tokens=config.rollout.max_total_tokens,
    )


def _tokens(rollouts: Sequence[Rollout]) -> int:
    return sum(len(rollout.response_token_ids) for rollout in rollouts)
