"""`kvl-rl train`: opens everything a run needs, resumes it if it had begun, closes everything."""

from __future__ import annotations

from contextlib import ExitStack

from ...configs.loading import save_config
from ...configs.rl import RLConfig
from ...problems.loading import load_problems, load_sources
from ...problems.types import Problem, Skipped
from ...rewards.combine import Rewards, RewardSpec
from ...rewards.grader import Grader
from ...rollouts.fleet import Fleet, connect
from ...run_files.checkpoints import RunCheckpoints, check_weights
from ...run_files.recorder import Recorder
from ..choosing.chooser import ProblemChooser
from ..learner.learner_group import LearnerGroup
from .collect import Collector
from .loop import Run, train_iterations
from .partial import PartialRollouts


def train(config: RLConfig) -> None:
    """Run or resume a training run; the same command continues after a kill at any moment.

    Raises KVLError for anything the user can fix, before any process is started where possible.
    """
    check_weights(config.checkpoint)
    sources, skipped = load_sources(config.sources)
    held_out: list[Problem] = []
    if config.evaluation is not None:
        held_out, also_skipped = load_problems(config.evaluation.problems)
        skipped = [*skipped, *also_skipped]
    config.run_dir.mkdir(parents=True, exist_ok=True)
    if is_finished(config):
        print(f"{config.run_dir}: all {config.iterations} iterations are done")
        return
    save_config(config, config.run_dir / "config.yaml")

    checkpoints = RunCheckpoints(config.run_dir, config.keep_checkpoints)
    chooser = ProblemChooser(
        sources, config.seed, config.choosing, [source.weight for source in config.sources]
    )
    partial = PartialRollouts(config.rollout.max_total_tokens or 0)
    latest = checkpoints.latest()
    first = steps = 0
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(config.run_dir, config.trackers, config.iterations))
        report_skipped(recorder, skipped)
        with recorder.stage("start"):
            stack.enter_context(connect())
            # The fleet starts its engines in the background while the learner loads.
            fleet = stack.enter_context(Fleet(config.checkpoint, config.rollout, seed=config.seed))
            learner = LearnerGroup(config)
            stack.callback(learner.close)
            grader = stack.enter_context(
                Grader(config.grader.workers, config.grader.timeout_seconds)
            )
            rewards = stack.enter_context(open_rewards(config))
            if latest is not None:
                first, folder = latest
                state = checkpoints.driver_state(folder)
                steps = state["optimizer_steps"]
                chooser.load_state_dict(state["chooser"])
                rewards.load_state_dict(state.get("rewards", {}))
                by_id = {problem.id: problem for problem in chooser.problems}
                partial.load_state_dict(state.get("partial", ()), by_id)
                learner.load_state(folder.absolute())
            recorder.rewind(first)
        collector = Collector(config, chooser, fleet, grader, rewards, recorder, partial)
        run = Run(config, collector, learner, held_out, recorder, checkpoints)
        train_iterations(run, first, steps)


def open_rewards(config: RLConfig) -> Rewards:
    """The configured rewards; a plugin's process starts with its first sample."""
    specs = [
        RewardSpec(
            entry.type,
            entry.weight,
            entry.start,
            entry.settings,
            entry.timeout_seconds,
            entry.workers,
            entry.memory_gib,
            entry.import_from,
        )
        for entry in config.rewards
    ]
    return Rewards(specs, config.reward_combination)


def is_finished(config: RLConfig) -> bool:
    """Whether the run has its final export and, if it evaluates, its last evaluation."""
    last = config.run_dir / ("final" if config.evaluation is None else "evaluation/after.json")
    return (config.run_dir / "final").is_dir() and last.exists()


def report_skipped(recorder: Recorder, skipped: list[Skipped]) -> None:
    for one in skipped:
        recorder.failure(-1, one.id, one.reason)
