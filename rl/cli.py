"""`kvl-rl`: train, evaluate, grade, report. Heavy imports wait until a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, arg
from tyro.extras import SubcommandApp

from ..configs.errors import ConfigError, user_errors
from ..configs.system.inputs import require_inputs
from ..configs.system.process import import_nothing_from_here
from ..configs.system.versions import asked_for_version, versions

if TYPE_CHECKING:
    from ..configs.rl import GraderConfig
    from ..configs.rollout import RolloutConfig

app = SubcommandApp()


@app.command
def train(
    config: Annotated[
        Path, arg(metavar="CONFIG", help="YAML file, or a preset's name such as rl/demo")
    ],
    overrides: Annotated[
        tuple[str, ...],
        arg(metavar="[KEY=VALUE ...]", help="such as rollout.workers=2", help_behavior_hint=""),
    ] = (),
    /,
    *,
    dry_run: Annotated[bool, arg(help="print the resolved config and stop")] = False,
) -> None:
    """Online policy-mirror-descent RL; the same command again resumes the run."""
    from ..configs.loading import dump_config
    from .config import load_rl_config

    loaded = load_rl_config(config, overrides)
    if dry_run:
        print(dump_config(loaded), end="")
        return
    from ..configs.job_paths import require_lasting_paths

    require_lasting_paths(loaded)
    held_out = [] if loaded.evaluation is None else [loaded.evaluation.problems]
    written = [] if loaded.ptx is None else [loaded.ptx.problems]
    require_inputs(loaded.checkpoint, [one.path for one in (*loaded.sources, *held_out, *written)])
    from .loop.run import train as run

    run(loaded)


@app.command
def submit(
    config: Annotated[
        Path, arg(metavar="CONFIG", help="YAML file, or a preset's name such as rl/demo")
    ],
    overrides: Annotated[
        tuple[str, ...],
        arg(metavar="[KEY=VALUE ...]", help="such as rollout.workers=2", help_behavior_hint=""),
    ] = (),
    /,
    *,
    address: Annotated[
        str | None,
        arg(
            metavar="URL",
            help="dashboard, http://HOST:8265; default: RAY_ADDRESS",
            help_behavior_hint="",
        ),
    ] = None,
    follow: Annotated[
        bool, arg(help="end at once, without its logs", help_behavior_hint="")
    ] = True,
) -> None:
    """Train as a job of a Ray cluster; the same command again resumes the run."""
    from .config import load_rl_config
    from .jobs import submit as run

    raise SystemExit(run(load_rl_config(config, overrides), address, follow))


@app.command(name="eval")
def evaluate(
    checkpoint: Annotated[Path, arg(metavar="CHECKPOINT", help="folder in the published layout")],
    problems: Annotated[Path, arg(metavar="PROBLEMS", help="a problem file, see docs/data.md")],
    /,
    *,
    samples: Annotated[int, arg(help="responses per problem")] = 1,
    temperature: Annotated[float, arg(help="0 is greedy")] = 0.0,
    limit: Annotated[int | None, arg(metavar="N", help="take at most this many problems")] = None,
    prefix: Annotated[
        str | None, arg(metavar="TEXT", help="keep only ids that start with this")
    ] = None,
    max_response_tokens: Annotated[
        int | None, arg(metavar="N", help="default: the config's", help_behavior_hint="")
    ] = None,
    policy: Annotated[
        Literal["eval", "rl"], arg(help="eval: as benchmarks do; rl: strict, as in training")
    ] = "eval",
    seed: int = 0,
    out: Annotated[Path | None, arg(metavar="FILE", help="write the result as JSON here")] = None,
    config: Annotated[
        Path | None, arg(metavar="CONFIG", help="an RL config, for its engine and grader")
    ] = None,
) -> None:
    """Accuracy of a checkpoint, by family and level; with --out, the same command resumes."""
    if samples < 1:
        raise ConfigError(f"--samples {samples}: must be at least 1")
    if temperature < 0:
        raise ConfigError(f"--temperature {temperature}: must not be negative")
    if temperature == 0 and samples > 1:
        raise ConfigError(f"--samples {samples}: greedy samples are all equal; add --temperature 1")
    for flag, value in (("--limit", limit), ("--max-response-tokens", max_response_tokens)):
        if value is not None and value < 1:
            raise ConfigError(f"{flag} {value}: must be at least 1")
    rollout, grading = _engine_settings(config, max_response_tokens)
    require_inputs(checkpoint, [problems])

    from ..configs.common import ProblemSource
    from ..evaluation.evaluate import evaluate_checkpoint
    from ..rewards.types import Strictness

    evaluate_checkpoint(
        checkpoint,
        ProblemSource(path=problems, limit=limit, prefix=prefix),
        samples=samples,
        temperature=temperature,
        rollout=rollout,
        grading=grading,
        strictness=Strictness(policy),
        seed=seed,
        out=out,
    )


@app.command
def report(run: Annotated[Path, arg(metavar="RUN", help="the folder of a run")], /) -> None:
    """Write report.html into a run's folder: curves, accuracies and rollouts with their images."""
    from ..reports.report import write_report

    print(write_report(run))


@app.command
def grade(
    source: Annotated[Path, arg(metavar="IN.jsonl", help="rows with answer and response")],
    /,
    *,
    out: Annotated[Path, arg(metavar="OUT.jsonl", help="the same rows with their verdicts")],
    policy: Annotated[
        Literal["eval", "rl"], arg(help="eval: as benchmarks do; rl: strict, as in training")
    ] = "eval",
    workers: Annotated[int, arg(metavar="N", help="processes for math-verify")] = 1,
    timeout: Annotated[float, arg(metavar="SECONDS", help="of one math-verify comparison")] = 2.0,
) -> None:
    """Grade a file of responses: rows in, the same rows with verdicts out, and a summary."""
    if workers < 1:
        raise ConfigError(f"--workers {workers}: must be at least 1")
    if timeout <= 0:
        raise ConfigError(f"--timeout {timeout}: must be more than 0")
    from ..evaluation.grade_file import grade_file
    from ..rewards.types import Strictness

    grade_file(source, out, Strictness(policy), workers, timeout)


@app.command
def rewards() -> None:
    """List the rewards a config can use, with their settings: built in and installed."""
    from ..evaluation.grade_file import list_rewards

    list_rewards()


@app.command
def problems(
    path: Annotated[
        Path, arg(metavar="PATH", help="a file, a quoted glob, a folder of parquet, or a dataset")
    ],
    /,
    *,
    columns: Annotated[
        tuple[str, ...],
        arg(metavar="FIELD=COLUMN", help="for a file of no known layout: question=q answer=gold"),
    ] = (),
) -> None:
    """Show what is recognised in problem files: layout, counts, what is skipped, examples."""
    from ..problems.showing import columns_from, show_problems

    show_problems(path, columns_from(columns))


@app.command
def rate(
    checkpoint: Annotated[Path, arg(metavar="CHECKPOINT", help="folder in the published layout")],
    problems: Annotated[Path, arg(metavar="PROBLEMS", help="a problem file, see docs/data.md")],
    /,
    *,
    out: Annotated[Path, arg(metavar="OUT.jsonl", help="the same rows with their pass_rate")],
    samples: Annotated[int, arg(metavar="N", help="responses per problem")] = 10,
    temperature: Annotated[float, arg(help="above 0, at most 2")] = 1.0,
    config: Annotated[
        Path | None, arg(metavar="CONFIG", help="an RL config, for its engine and grader")
    ] = None,
) -> None:
    """Measure how often a checkpoint solves each problem; the same command again resumes."""
    if samples < 1:
        raise ConfigError(f"--samples {samples}: must be at least 1")
    if not 0 < temperature <= 2:
        raise ConfigError(f"--temperature {temperature}: must be above 0 and at most 2")
    rollout, grading = _engine_settings(config, None)
    require_inputs(checkpoint, [problems])
    from ..evaluation.rate import rate_file

    rate_file(
        checkpoint,
        problems,
        out,
        samples=samples,
        temperature=temperature,
        rollout=rollout,
        grading=grading,
    )


@app.command
def curate(
    source: Annotated[Path, arg(metavar="IN.jsonl", help="problems, rated or not")],
    /,
    *,
    out: Annotated[Path, arg(metavar="OUT.jsonl", help="those worth training on")],
    checkpoint: Annotated[
        Path | None, arg(metavar="CHECKPOINT", help="guesses without thinking")
    ] = None,
    tries: Annotated[int, arg(metavar="N", help="guesses at each problem")] = 8,
    config: Annotated[
        Path | None, arg(metavar="CONFIG", help="an RL config, for its engine and grader")
    ] = None,
) -> None:
    """Drop proofs, true/false, bad answers, duplicates and what is too easy; report why."""
    if tries < 1:
        raise ConfigError(f"--tries {tries}: must be at least 1")
    rollout, grading = _engine_settings(config, None)
    require_inputs(checkpoint, [source])
    from ..evaluation.curate import curate_file

    curate_file(source, out, checkpoint=checkpoint, tries=tries, rollout=rollout, grading=grading)


@app.command
def schema() -> None:
    """Print the JSON schema of a config, by which editors complete and check it."""
    from ..configs.rl import RLConfig
    from ..configs.schema import schema_text

    print(schema_text(RLConfig), end="")


@app.command
def doctor(*, json: Annotated[bool, arg(help="print the findings as JSON")] = False) -> None:
    """What keeps a run from working on this machine, each with its fix; exit code 1 if any."""
    from .doctor.command import doctor as look

    if not look(json):
        raise SystemExit(1)


def _engine_settings(
    config: Path | None, max_response_tokens: int | None
) -> tuple[RolloutConfig, GraderConfig]:
    from ..configs.loading import load_config
    from ..configs.rl import GraderConfig, RLConfig
    from ..configs.rollout import RolloutConfig

    if config is not None:
        overrides = []
        if max_response_tokens is not None:
            overrides.append(f"rollout.max_response_tokens={max_response_tokens}")
        loaded = load_config(config, RLConfig, overrides)
        return loaded.rollout, loaded.grader
    rollout = RolloutConfig()
    if max_response_tokens is not None:
        room = rollout.engine.max_model_len
        if max_response_tokens >= room:
            raise ConfigError(
                f"--max-response-tokens {max_response_tokens}: must be smaller than the engine's "
                f"max_model_len ({room}); raise that in a --config"
            )
        rollout = rollout.model_copy(update={"max_response_tokens": max_response_tokens})
    return rollout, GraderConfig()


def main() -> None:
    with user_errors():
        if asked_for_version():
            print(versions("kvl-rl"))
            return
        import_nothing_from_here()
        app.cli(
            prog="kvl-rl",
            description="Reinforcement learning for Kimi-VL. --version: what is installed.",
            config=(FlagCreatePairsOff,),
        )


if __name__ == "__main__":
    main()
