"""`kvl-sft`: checkpoints, synthetic problems, supervised training. Imports are lazy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, arg
from tyro.extras import SubcommandApp

from ..configs.errors import ConfigError, user_errors
from ..configs.system.inputs import require_checkpoint, require_inputs
from ..configs.system.process import import_nothing_from_here
from ..configs.system.versions import asked_for_version, versions

app = SubcommandApp()


@app.command
def init_tiny(
    out: Annotated[Path, arg(metavar="OUT", help="the folder to write")], /, *, seed: int = 0
) -> None:
    """Write a tiny random Kimi-VL checkpoint (2 M parameters) in the published layout."""
    from ..kimi_vl_model.tiny import write_tiny_checkpoint
    from ..problems.synthetic.texts import written_texts

    write_tiny_checkpoint(out, written_texts(), seed)
    print(out)


@app.command
def generate(
    out: Annotated[Path, arg(metavar="OUT", help="the folder to write")],
    /,
    *,
    train: Annotated[int, arg(help="problems to train on")],
    heldout: Annotated[int, arg(help="problems to evaluate on; share no content with those")],
    families: Annotated[tuple[str, ...], arg(help="default: all", help_behavior_hint="")] = (),
    levels: tuple[int, ...] = (1, 2, 3, 4),
    recheck_share: Annotated[float, arg(help="share of solutions that look again and again")] = 0.0,
    seed: int = 0,
) -> None:
    """Write synthetic problems with solutions: OUT/train.jsonl and OUT/heldout.jsonl."""
    from ..problems.jsonl import write_jsonl
    from ..problems.synthetic import FAMILIES, Split
    from ..problems.synthetic import generate as problems

    counts: dict[Split, int] = {"train": train, "heldout": heldout}
    for split, count in counts.items():
        if count < 0:
            raise ConfigError(f"--{split} {count}: must not be negative")
        path = out / f"{split}.jsonl"
        write_jsonl(problems(split, count, families or FAMILIES, levels, seed, recheck_share), path)
        print(f"{path}: {count} problems")


@app.command
def train(
    config: Annotated[
        Path, arg(metavar="CONFIG", help="YAML file, or a preset's name such as sft/demo")
    ],
    overrides: Annotated[
        tuple[str, ...],
        arg(metavar="[KEY=VALUE ...]", help="such as optimizer.name=muon", help_behavior_hint=""),
    ] = (),
    /,
    *,
    dry_run: Annotated[bool, arg(help="print the resolved config and stop")] = False,
) -> None:
    """Long-CoT supervised fine-tuning; the same command again resumes the run."""
    from ..configs.loading import dump_config, load_config
    from ..configs.sft import SFTConfig

    loaded = load_config(config, SFTConfig, overrides)
    if dry_run:
        print(dump_config(loaded), end="")
        return
    from ..configs.job_paths import require_lasting_paths

    require_lasting_paths(loaded)
    if not (loaded.run_dir / "final").is_dir():
        require_inputs(loaded.checkpoint, [loaded.problems.path])
    from ..configs.system.threads import settle_threads

    settle_threads()
    from .train import train as run

    print(run(loaded))


@app.command
def distill(
    checkpoint: Annotated[Path, arg(metavar="CHECKPOINT", help="the policy to sample from")],
    problems: Annotated[Path, arg(metavar="PROBLEMS", help="a .jsonl or MMMU .parquet file")],
    /,
    *,
    out: Annotated[Path, arg(metavar="OUT.jsonl", help="the training set to write")],
    samples: Annotated[int, arg(help="responses per problem")] = 8,
    temperature: float = 1.0,
    keep: Annotated[
        Literal["shortest", "diverse"], arg(help="of the correct responses (sft)")
    ] = "shortest",
    most: Annotated[int, arg(metavar="M", help="kept per problem with --keep diverse")] = 4,
    format: Annotated[
        Literal["sft", "dpo"], arg(help="dpo: the shortest correct one against longer ones")
    ] = "sft",
    limit: Annotated[int | None, arg(metavar="N", help="take at most this many problems")] = None,
    seed: int = 0,
    config: Annotated[
        Path | None, arg(metavar="CONFIG", help="an RL config, for its engine and grader")
    ] = None,
) -> None:
    """Write a training set of the policy's own verified responses; again, it resumes."""
    for flag, value, least in (
        ("--samples", samples, 2 if format == "dpo" else 1),
        ("--most", most, 1),
        ("--limit", limit, 1),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{flag} {value}: must be at least {least}")
    if not 0 < temperature <= 2:
        raise ConfigError(f"--temperature {temperature}: must be above 0 and at most 2")
    if out.suffix != ".jsonl":
        raise ConfigError(f"--out {out}: must end in .jsonl")
    from ..configs.common import ProblemSource
    from ..configs.loading import load_config
    from ..configs.rl import GraderConfig, RLConfig
    from ..configs.rollout import RolloutConfig

    rollout, grading = RolloutConfig(), GraderConfig()
    if config is not None:
        loaded = load_config(config, RLConfig)
        rollout, grading = loaded.rollout, loaded.grader
    require_inputs(checkpoint, [problems])
    from ..rollouts.types import SamplingSettings
    from .distill import Choice
    from .distill import distill as run

    run(
        checkpoint,
        ProblemSource(path=problems, limit=limit),
        out,
        SamplingSettings(samples, temperature, rollout.max_response_tokens, seed),
        Choice(format, keep, most),
        rollout,
        grading,
    )


@app.command
def merge(
    checkpoints: Annotated[
        tuple[Path, ...],
        arg(
            metavar="A B [C ...]",
            help="checkpoint folders of one architecture",
            help_behavior_hint="(required)",
        ),
    ],
    /,
    *,
    out: Annotated[Path, arg(metavar="OUT", help="the folder to write")],
    weights: Annotated[
        tuple[float, ...], arg(help="one per checkpoint; default: equal", help_behavior_hint="")
    ] = (),
) -> None:
    """Average the weights of checkpoints (long2short); all other files are those of A."""
    for folder in checkpoints:
        require_checkpoint(folder)
    from .merge import merge as run

    print(run(checkpoints, weights or None, out))


@app.command
def inspect(
    checkpoint: Annotated[Path, arg(metavar="CHECKPOINT", help="a checkpoint folder")], /
) -> None:
    """Sizes, dtypes and special ids of a checkpoint, and every problem found; loads no weights."""
    require_checkpoint(checkpoint)
    from .inspection import inspect as look
    from .inspection import report

    inspection = look(checkpoint)
    report(inspection)
    if inspection.problems:
        raise SystemExit(1)


@app.command
def schema() -> None:
    """Print the JSON schema of a config, by which editors complete and check it."""
    from ..configs.schema import schema_text
    from ..configs.sft import SFTConfig

    print(schema_text(SFTConfig), end="")


def main() -> None:
    with user_errors():
        if asked_for_version():
            print(versions("kvl-sft"))
            return
        import_nothing_from_here()
        app.cli(
            prog="kvl-sft",
            description="Supervised fine-tuning for Kimi-VL. --version: what is installed.",
            config=(FlagCreatePairsOff,),
        )


if __name__ == "__main__":
    main()
