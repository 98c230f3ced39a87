"""The training iteration, read top to bottom (Kimi k1.5 §2.3, Kimi-VL §2.4).

problems → rollouts → verdicts → groups → reference log-probs → optimizer steps → weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...configs.rl import RLConfig
from ...evaluation.records import write_transcripts
from ...evaluation.types import Group
from ...problems.types import Problem
from ...run_files.checkpoints import Checkpoints
from ...run_files.recorder import Recorder
from ..learner.batch import TokenSequence, rollout_sequence
from ..learner.learner_group import LearnerGroup
from .collect import Collector
from .evaluations import evaluate_policy, keep_best
from .metrics import learner_metrics, rollout_metrics, schedule_metrics
from .sync import check_agreement, sync_weights


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run holds open; `run.py` opens and closes it."""

    config: RLConfig
    collector: Collector
    learner: LearnerGroup
    held_out: Sequence[Problem]
    recorder: Recorder
    checkpoints: Checkpoints


def train_iterations(run: Run, first: int, steps: int) -> None:
    """Iterations `first` to the configured last, after `steps` optimizer steps. π_i is the policy
    as synced before each one: behaviour policy and regulariser reference at once, fixed while the
    minibatches step."""
    config, recorder, learner = run.config, run.recorder, run.learner
    fleet, grader, chooser = run.collector.fleet, run.collector.grader, run.collector.chooser
    with recorder.stage("sync"):
        difference = sync_weights(config, fleet, learner, chooser.problems, first)
    if first == 0:
        with recorder.stage("evaluate"):
            evaluate_policy(config, fleet, grader, run.held_out, 0, "before")
    for iteration in range(first, config.iterations):
        done = iteration + 1
        collected = run.collector.collect(iteration)
        report_invalid(recorder, iteration, collected.groups)
        with recorder.stage("reference"):
            sequences = [group_sequences(group) for group in collected.trained]
            reference = learner.take(sequences, iteration)
            mean, far = (reference.mean(name, "fresh_tokens") for name in ("difference_sum", "far"))
            check_agreement(config, mean, far, f"sampling of iteration {iteration}")
        with recorder.stage("learn"):
            update = learner.update(steps)
            steps += int(update["steps"])
        metrics = {
            **rollout_metrics(collected),
            **learner_metrics(reference, update),
            **schedule_metrics(config, iteration),
            **chooser.metrics(),
            "sync_difference_max": difference,
            "weight_version": iteration,
        }
        with recorder.stage("sync"):
            difference = sync_weights(config, fleet, learner, chooser.problems, done)
        write_transcripts(
            config.run_dir / "transcripts",
            iteration,
            collected.groups,
            config.transcripts_per_iteration,
        )
        if due(config.evaluation.every if config.evaluation else None, done, config.iterations):
            with recorder.stage("evaluate"):
                name = f"iteration_{done:06d}"
                metrics |= evaluate_policy(config, fleet, grader, run.held_out, done, name)
            with recorder.stage("checkpoint"):
                keep_best(config, learner, done, metrics)
        recorder.log(iteration, metrics)
        if due(config.checkpoint_every, done, config.iterations) or done == config.iterations:
            with recorder.stage("checkpoint"):
                save_checkpoint(run, done, steps)
    with recorder.stage("checkpoint"):
        folder = config.run_dir.absolute()
        learner.export(folder / "final", folder / "adapter")
    with recorder.stage("evaluate"):
        evaluate_policy(config, fleet, grader, run.held_out, config.iterations, "after")


def group_sequences(group: Group) -> list[TokenSequence]:
    return [
        rollout_sequence(one.problem, one.rollout, one.advantage or 0.0) for one in group.trained
    ]


def report_invalid(recorder: Recorder, iteration: int, groups: Sequence[Group]) -> None:
    """Samples that nobody could grade, one line for each reason; they left their group."""
    problems: dict[str, list[str]] = {}
    for group in groups:
        for one in group.responses:
            if not one.verdict.gradable:
                problems.setdefault(one.verdict.reason, []).append(group.problem.id)
    for reason, ids in problems.items():
        count = f"{len(ids)} samples" if len(ids) > 1 else "1 sample"
        recorder.failure(iteration, ids[0], f"{count} not graded, the first here: {reason}")


def save_checkpoint(run: Run, done: int, steps: int) -> None:
    driver = {
        "iterations": done,
        "optimizer_steps": steps,
        "chooser": run.collector.chooser.state_dict(),
        "rewards": run.collector.rewards.state_dict(),
        "partial": run.collector.partial.state_dict(),
    }
    run.checkpoints.save(done, driver, run.learner.save_state)


def due(every: int | None, done: int, last: int) -> bool:
    return every is not None and done % every == 0 and done < last
