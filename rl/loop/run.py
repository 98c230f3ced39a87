"""`kvl-rl train`: opens everything a run needs, resumes it if it had begun, closes everything."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

from ...configs.errors import CheckpointError, KVLError
from ...configs.loading import save_config
from ...configs.rl import RLConfig
from ...configs.system.files import file_errors
from ...kimi_vl_model.soundness import check_checkpoint
from ...problems.loading import load_problems, load_sources
from ...problems.types import Problem, Skipped
from ...rewards.combine import Rewards, RewardSpec
from ...rewards.gold_fault import gold_fault
from ...rewards.grader import Grader
from ...rollouts.cluster import connect
from ...rollouts.fleet import Fleet
from ...rollouts.weights.weight_buckets import remove_abandoned
from ...run_files.checkpoints import STATE_FILE, Checkpoint, Checkpoints
from ...run_files.evaluations import best_of, keep_former_end
from ...run_files.identity import Identity, identity, require_same, require_same_run
from ...run_files.lock import locked
from ...run_files.recorder import Recorder
from ..choosing.chooser import ProblemChooser
from ..learner.learner_group import LearnerGroup
from .collect import Collector
from .loop import Run, train_iterations
from .partial import PartialRollouts

# What another session of the same run may change: none of it changes what is learned, and
# `iterations` only how long. Of `evaluation`, every and keep_best; or all of it, if one of the two
# sessions has none. docs/architecture.md lists them for users.
MAY_CHANGE = (
    "run_dir",
    "iterations",
    "evaluation",
    "checkpoint_every",
    "keep_checkpoints",
    "transcripts_per_iteration",
    "trackers",
    "mismatch_tolerance",
    "probe_problems",
    "grader.workers",
    "grader.timeout_seconds",
    "rewards.*.timeout_seconds",
    "rewards.*.workers",
    "rewards.*.memory_gib",
    "rollout.workers",
    "rollout.engine.deterministic",
    "rollout.engine.max_num_seqs",
    "rollout.engine.max_num_batched_tokens",
    "rollout.engine.tensor_parallel_size",
    "rollout.engine.weight_transfer",
    "rollout.engine.threads",
    "rollout.engine.memory_fraction",
    "rollout.engine.cpu_cache_gib",
    "learner.pack_tokens",
    "learner.logprob_chunk",
    "learner.activation_checkpointing",
    "learner.precision.threads",
)
EVALUATION_MAY_CHANGE = ("every", "keep_best")


def train(config: RLConfig) -> None:
    """Run or resume a training run; the same command continues after a kill at any moment, and
    with more `iterations` after its end.

    Raises KVLError for anything the user can fix, before any process is started where possible:
    also for a `run_dir` that another command works in, or that holds another run.
    """
    check_checkpoint(config.checkpoint)
    sources, skipped = load_sources(config.sources, gold_fault)
    held_out: list[Problem] = []
    if config.evaluation is not None:
        held_out, also_skipped = load_problems(config.evaluation.problems, gold_fault)
        skipped = [*skipped, *also_skipped]
    with locked(config.run_dir):
        run = run_identity(config)
        checkpoints = Checkpoints(
            config.run_dir / "checkpoints", "iteration", config.keep_checkpoints, run, print
        )
        latest = resumable(config, run, checkpoints)
        if is_finished(config, latest):
            print(f"{config.run_dir}: all {config.iterations} iterations are done")
            return
        chooser = ProblemChooser(
            sources, config.seed, config.choosing, [source.weight for source in config.sources]
        )
        _train(config, chooser, held_out, skipped, checkpoints, latest)


def _train(
    config: RLConfig,
    chooser: ProblemChooser,
    held_out: list[Problem],
    skipped: list[Skipped],
    checkpoints: Checkpoints,
    latest: Checkpoint | None,
) -> None:
    first = 0 if latest is None else latest.position
    steps = 0
    partial = PartialRollouts(config.rollout.max_total_tokens or 0)
    with ExitStack() as stack:
        recorder = stack.enter_context(Recorder(config.run_dir, config.trackers, config.iterations))
        report_skipped(recorder, skipped)
        recorder.rewind(first)
        # Last of all: a learner that was killed may have left weights in shared memory.
        stack.callback(remove_abandoned)
        with recorder.stage("start"):
            stack.enter_context(connect())
            # The fleet starts its engines in the background while the learner loads.
            world = config.learner.world_size
            fleet = stack.enter_context(
                Fleet(config.checkpoint, config.rollout, seed=config.seed, learner_ranks=world)
            )
            learner = LearnerGroup(config, fleet.placement)
            stack.callback(learner.close)
            grader = stack.enter_context(
                Grader(config.grader.workers, config.grader.timeout_seconds)
            )
            rewards = stack.enter_context(open_rewards(config))
            if latest is not None:
                steps = load_driver_state(latest, chooser, rewards, partial)
                learner.load_state(latest.folder.absolute())
        save_config(config, config.run_dir / "config.yaml")
        if first < config.iterations:
            take_back_end(config.run_dir)
        collector = Collector(config, chooser, fleet, grader, rewards, recorder, partial)
        run = Run(config, collector, learner, held_out, recorder, checkpoints)
        train_iterations(run, first, steps)


def run_identity(config: RLConfig) -> Identity:
    """What a run folder, and each of its checkpoints, is held to."""
    paths = {"checkpoint": config.checkpoint}
    if isinstance(config.problems, tuple):
        paths |= {f"problems.{n}.path": one.path for n, one in enumerate(config.problems)}
    else:
        paths["problems.path"] = config.problems.path
    return identity(config, MAY_CHANGE, paths)


def resumable(config: RLConfig, run: Identity, checkpoints: Checkpoints) -> Checkpoint | None:
    """The checkpoint to go on from; None for a run that begins.

    Raises KVLError if the folder holds another run, no whole checkpoint, or more iterations than
    are asked for.
    """
    saved, final = config.run_dir / "config.yaml", config.run_dir / "final"
    done = config.iterations
    if saved.is_file():
        try:
            done = require_same_settings(saved, config, run, checkpoints).iterations
        except KVLError:
            if final.is_dir() or any(checkpoints.folder.glob("[!.]*")):
                raise
            # It never got to a checkpoint, so nothing is lost when it starts anew.
            forget_evaluations(config.run_dir)
    best_of(config.run_dir)
    latest = checkpoints.latest()
    if latest is None and final.is_dir() and config.iterations > done:
        raise KVLError(
            f"{checkpoints.folder}: nothing to go on from after {done} iterations; start a new "
            f"run_dir with checkpoint {final}"
        )
    if latest is not None and latest.position > config.iterations and not final.is_dir():
        raise KVLError(
            f"{latest.folder}: has more than the {config.iterations} iterations asked for; set "
            f"iterations to {latest.position} or more"
        )
    return latest


def require_same_settings(
    saved: Path, config: RLConfig, run: Identity, checkpoints: Checkpoints
) -> RLConfig:
    """The config of the run that the folder holds. Raises KVLError if it is another run."""
    held = require_same_run(saved, config, MAY_CHANGE, run, checkpoints.known_contents())
    if held.evaluation is not None and config.evaluation is not None:
        before, now = (
            identity(one, EVALUATION_MAY_CHANGE, {"problems.path": one.problems.path})
            for one in (held.evaluation, config.evaluation)
        )
        require_same(saved, before, now, "evaluation: this run_dir holds a run")
    return held


def is_finished(config: RLConfig, latest: Checkpoint | None) -> bool:
    """Whether the run has its iterations, its final export and, if it evaluates, its last
    evaluation. A folder without checkpoints was finished as its export says."""
    if latest is not None and latest.position < config.iterations:
        return False
    last = config.run_dir / ("final" if config.evaluation is None else "evaluation/after.json")
    return (config.run_dir / "final").is_dir() and last.exists()


def load_driver_state(
    checkpoint: Checkpoint, chooser: ProblemChooser, rewards: Rewards, partial: PartialRollouts
) -> int:
    """Returns the optimizer steps taken before the checkpoint. Raises CheckpointError if what it
    holds is not this driver's state."""
    state = checkpoint.state()
    try:
        chooser.load_state_dict(state["chooser"])
        rewards.load_state_dict(state.get("rewards", {}))
        by_id = {problem.id: problem for problem in chooser.problems}
        partial.load_state_dict(state.get("partial", ()), by_id)
        return int(state["optimizer_steps"])
    except KVLError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint.folder / STATE_FILE}: is not the state of a run "
            f"({type(error).__name__}: {error}); delete {checkpoint.folder} to go on from the one "
            "before, or choose another run_dir"
        ) from None


def take_back_end(run_dir: Path) -> None:
    """Of a run that had ended and goes on: what it exported is the policy of fewer iterations."""
    keep_former_end(run_dir)
    for folder in (run_dir / "final", run_dir / "adapter"):
        if folder.is_dir():
            with file_errors(folder):
                shutil.rmtree(folder)


def forget_evaluations(run_dir: Path) -> None:
    for path in (run_dir / "evaluation").glob("before.json*"):
        with file_errors(path):
            path.unlink()


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


def report_skipped(recorder: Recorder, skipped: list[Skipped]) -> None:
    for one in skipped:
        recorder.failure(-1, one.id, one.reason)
