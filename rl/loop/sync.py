"""Weights from the learner to every engine, and the proof that they arrived."""

from __future__ import annotations

from collections.abc import Sequence

from ...configs.errors import KVLError
from ...configs.rl import RLConfig
from ...problems.types import Problem
from ...rollouts.fleet import Fleet
from ...rollouts.types import Rollout, SamplingSettings
from ..learner.batch import rollout_sequence
from ..learner.learner_group import LearnerGroup
from ..learner.measures import FAR
from ..schedule import temperature

PROBE_TOKENS = 8
# A robust quantile beside the mean: nine tokens of ten are not far apart.
MOST_FAR = 0.1


class SyncError(KVLError):
    """After a weight sync the engines do not compute what the learner computes."""


def sync_weights(
    config: RLConfig,
    fleet: Fleet,
    learner: LearnerGroup,
    problems: Sequence[Problem],
    version: int,
) -> float:
    """Push the learner's weights to every engine and prove it: a few tokens that each engine
    samples with them must have the learner's own log-probabilities. Returns the largest difference.

    The probes are the first of `problems` that can be sampled, one with an image first if there is
    one: the vision tower has weights too. Raises SyncError when a difference is too large or an
    engine has no probe.
    """
    if config.rollout.engine.weight_transfer == "shared_memory":
        fleet.sync_weights(learner.weights(), version)
    else:
        learner.send_weights(fleet, version)
    settings = SamplingSettings(1, temperature(config, version), PROBE_TOKENS, seed=version)
    probes = probe_problems(problems, config.probe_problems)
    by_id = {problem.id: problem for problem in probes}
    everyones = fleet.sample_everywhere(probes, settings)
    require_probes(everyones, probes, version)
    rollouts = [rollout for own in everyones for rollout in own]
    stale = {version_of for r in rollouts for version_of in r.weight_versions} - {version}
    if stale:
        raise SyncError(f"sync {version}: engines still sample with weight version {min(stale)}")
    differences = learner.score(
        [rollout_sequence(by_id[r.problem_id], r) for r in rollouts], version
    )
    far = sum(one > FAR * config.tolerance for one in differences)
    count = len(differences)
    check_agreement(config, sum(differences) / count, far / count, f"sync {version}")
    return max(differences)


def probe_problems(problems: Sequence[Problem], count: int) -> list[Problem]:
    """`count` problems, the first with images and the first without before the others."""
    firsts: dict[bool, Problem] = {}
    for problem in problems:
        firsts.setdefault(bool(problem.images), problem)
    chosen = [firsts[shown] for shown in (True, False) if shown in firsts]
    rest = (problem for problem in problems if problem not in chosen)
    return [*chosen, *rest][:count]


def require_probes(
    everyones: Sequence[Sequence[Rollout]], probes: Sequence[Problem], version: int
) -> None:
    """Raise SyncError unless every engine sampled a probe, one of them with an image if any has."""
    with_images = {problem.id for problem in probes if problem.images}
    for engine, rollouts in enumerate(everyones):
        answered = {rollout.problem_id for rollout in rollouts}
        lacks_image = with_images and not with_images & answered
        if not answered or lacks_image:
            raise SyncError(
                f"sync {version}: engine {engine} could sample no probe"
                f"{' with an image' if lacks_image else ''}, so nothing proves that it holds the "
                "learner's weights; failures.jsonl may say why"
            )


def check_agreement(config: RLConfig, mean: float, far: float, when: str) -> None:
    """`mean` of |log π − log μ| over sampled tokens, and the share of them that is far apart. Not
    the largest: among millions of router decisions a few are ties, which engine and learner may
    break differently. Raises SyncError."""
    if mean <= config.tolerance and far <= MOST_FAR:
        return
    raise SyncError(
        f"{when}: engine and learner log-probs of sampled tokens differ by {mean:.3g} on average, "
        f"{far:.0%} of them by more than {FAR * config.tolerance:g}; with the same weights "
        f"it is at most mismatch_tolerance ({config.tolerance:g}) and {MOST_FAR:.0%}: the engine "
        "does not hold the learner's weights, or computes in another precision"
    )
