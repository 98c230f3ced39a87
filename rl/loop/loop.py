"""The training iteration, read top to bottom (Kimi k1.5 §2.3, Kimi-VL §2.4).

problems → rollouts → verdicts → groups → reference log-probs → optimizer steps → weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...configs.errors import KVLError
from ...configs.rl import RLConfig
from ...evaluation.evaluate import Answered, evaluate, write_evaluation
from ...problems.types import Problem
from ...rewards.combine import Rewards
from ...rewards.grader import Grader
from ...rollouts.fleet import Fleet
from ...rollouts.types import SamplingSettings
from ...run_files.checkpoints import Checkpoints
from ...run_files.evaluations import best_of, note_best
from ...run_files.recorder import Recorder
from ..choosing.chooser import ProblemSampler
from ..learner.learner_group import LearnerGroup
from ..schedule import learning_rate, max_response_tokens, temperature
from ..types import Group
from .collect import collect
from .metrics import iteration_metrics
from .partial import PartialRollouts

PROBE_TOKENS = 8


class SyncError(KVLError):
    """After a weight sync the engines do not compute what the learner computes."""


@dataclass(slots=True)
class Run:
    """Everything a training run holds open, handed to the functions below."""

    config: RLConfig
    sampler: ProblemSampler
    evaluation_problems: list[Problem]
    fleet: Fleet
    learner: LearnerGroup
    grader: Grader
    rewards: Rewards
    recorder: Recorder
    checkpoints: Checkpoints
    partial: PartialRollouts


def train_iterations(run: Run, first: int) -> None:
    """Iterations `first` to the configured last. π_i is the policy as synced before each one:
    behaviour policy and regulariser reference at once, fixed while the minibatches step."""
    config, recorder = run.config, run.recorder
    with recorder.stage("sync"):
        difference = sync_weights(run, version=first)
    if first == 0:
        evaluate_policy(run, 0, "before")
    for iteration in range(first, config.iterations):
        collected = collect(run, iteration)
        groups = collected.groups
        report_invalid(run, iteration, collected.answered)
        with recorder.stage("reference"):
            reference = run.learner.take_groups(groups, iteration)
            # The mean, not the largest: among millions of router decisions a few are ties, which
            # engine and learner may break differently. The largest is in the metrics.
            mean_difference = reference.difference_sum / max(reference.tokens, 1)
            check_agreement(config, mean_difference, f"sampling of iteration {iteration}")
        with recorder.stage("learn"):
            update = run.learner.update()
        metrics = iteration_metrics(collected, reference, update)
        metrics |= {
            "temperature": temperature(config, iteration),
            "response_cap": max_response_tokens(config, iteration),
            "learning_rate": learning_rate(config, iteration),
        }
        metrics |= run.sampler.metrics()
        metrics |= {"sync_difference_max": difference, "weight_version": iteration}
        with recorder.stage("sync"):
            difference = sync_weights(run, version=iteration + 1)
        recorder.transcripts(iteration, groups, config.transcripts_per_iteration)
        done = iteration + 1
        if due(config.evaluation.every if config.evaluation else None, done, config.iterations):
            metrics |= evaluate_policy(run, done, f"iteration_{done:06d}")
            keep_best(run, done, metrics)
        recorder.log(iteration, metrics)
        if due(config.checkpoint_every, done, config.iterations) or done == config.iterations:
            with recorder.stage("checkpoint"):
                save_checkpoint(run, done)
    with recorder.stage("checkpoint"):
        folder = config.run_dir.absolute()
        run.learner.export(folder / "final", folder / "adapter")
    evaluate_policy(run, config.iterations, "after")


def sync_weights(run: Run, version: int) -> float:
    """Push the learner's weights to every engine and prove it: a few tokens sampled with the
    new weights must have the learner's own log-probabilities. Returns the largest difference.

    Raises SyncError when they do not.
    """
    config = run.config
    if config.rollout.engine.weight_transfer == "shared_memory":
        run.fleet.sync_weights(run.learner.weights(), version)
    else:
        run.learner.send_weights(run.fleet, version)
    probes = run.sampler.problems[: config.probe_problems * config.rollout.workers]
    settings = SamplingSettings(1, temperature(config, version), PROBE_TOKENS, seed=version)
    rollouts, _failures = run.fleet.generate(probes, settings)
    by_id = {problem.id: problem for problem in probes}
    difference = run.learner.score(
        [Group(by_id[r.problem_id], (r,), (), (0.0,), (0.0,)) for r in rollouts], version
    )
    stale = {version_of for r in rollouts for version_of in r.weight_versions} - {version}
    if stale:
        raise SyncError(f"sync {version}: engines still sample with weight version {min(stale)}")
    check_agreement(config, difference, f"sync {version}")
    return difference


def check_agreement(config: RLConfig, difference: float, when: str) -> None:
    if not difference <= config.mismatch_tolerance:
        raise SyncError(
            f"{when}: engine and learner log-probs of sampled tokens differ by {difference:.3g}, "
            f"more than mismatch_tolerance {config.mismatch_tolerance:g}; the engine does not hold "
            "the learner's weights, or computes in another precision (bf16 needs a larger value)"
        )


def report_invalid(run: Run, iteration: int, answered: list[Answered]) -> None:
    """Samples that nobody could grade, one line for each reason; they left their group."""
    problems: dict[str, list[str]] = {}
    for one in answered:
        for verdict in one.verdicts:
            if not verdict.gradable:
                problems.setdefault(verdict.reason, []).append(one.problem.id)
    for reason, ids in problems.items():
        count = f"{len(ids)} samples" if len(ids) > 1 else "1 sample"
        run.recorder.failure(iteration, ids[0], f"{count} not graded, the first here: {reason}")


def evaluate_policy(run: Run, iteration: int, name: str) -> dict[str, float]:
    """Accuracy on the held-out problems; skipped when that evaluation was already written."""
    config = run.config
    folder = config.run_dir / "evaluation"
    if config.evaluation is None or (folder / f"{name}.json").is_file():
        return {}
    with run.recorder.stage("evaluate"):
        summary, rows = evaluate(
            run.fleet,
            run.grader,
            run.evaluation_problems,
            samples=config.evaluation.samples,
            temperature=config.evaluation.temperature,
            max_response_tokens=config.rollout.max_total_tokens
            or config.rollout.max_response_tokens,
            seed=config.seed,
        )
    write_evaluation(folder, name, {"iteration": iteration, **summary}, rows)
    return {
        f"evaluation/{key}": summary[key]
        for key in ("pass_at_1", "greedy")
        if summary[key] is not None
    }


def keep_best(run: Run, done: int, metrics: Mapping[str, float]) -> None:
    """Export the policy to `run_dir/best` if its evaluation beats every earlier one's."""
    config = run.config
    name = config.evaluation.keep_best if config.evaluation else None
    value = metrics.get(f"evaluation/{name}")
    if name is None or value is None:
        return
    best = best_of(config.run_dir)
    if best is not None and best["metric"] == name and best["value"] >= value:
        return
    with run.recorder.stage("checkpoint"):
        folder = config.run_dir.absolute()
        run.learner.export(folder / "best", folder / "best_adapter")
    note_best(config.run_dir, name, value, done)


def save_checkpoint(run: Run, done: int) -> None:
    driver = {
        "iterations": done,
        "sampler": run.sampler.state_dict(),
        "rewards": run.rewards.state_dict(),
        "partial": run.partial.state_dict(),
    }
    run.checkpoints.save(done, driver, run.learner.save_state)


def due(every: int | None, done: int, last: int) -> bool:
    return every is not None and done % every == 0 and done < last
