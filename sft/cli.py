"""`kvl-sft`: checkpoints, synthetic problems, supervised training. Imports are lazy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, arg
from tyro.extras import SubcommandApp

from ..configs.errors import ConfigError, user_errors

app = SubcommandApp()


@app.command
def init_tiny(
    out: Annotated[Path, arg(metavar="OUT", help="the folder to write")], /, *, seed: int = 0
) -> None:
    """Write a tiny random Kimi-VL checkpoint (2 M parameters) in the published layout."""
    from ..kimi_vl_model.tiny import write_tiny_checkpoint

    write_tiny_checkpoint(out, seed)
    print(out)


@app.command
def generate(
    out: Annotated[Path, arg(metavar="OUT", help="the folder to write")],
    /,
    *,
    train: Annotated[int, arg(help="problems to train on")],
    heldout: Annotated[int, arg(help="problems to evaluate on; share no content with those")],
    families: Annotated[tuple[str, ...], arg(help="default: all")] = (),
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
        tuple[str, ...], arg(metavar="[KEY=VALUE ...]", help="such as optimizer.name=muon")
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
    from ..configs.threads import settle_threads

    settle_threads()
    from .train import train as run

    print(run(loaded))


@app.command
def inspect(
    checkpoint: Annotated[Path, arg(metavar="CHECKPOINT", help="a checkpoint folder")], /
) -> None:
    """Sizes, dtypes and special ids of a checkpoint, and every problem found; loads no weights."""
    from .inspection import inspect as look
    from .inspection import report

    inspection = look(checkpoint)
    report(inspection)
    if inspection.problems:
        raise SystemExit(1)


def main() -> None:
    with user_errors():
        app.cli(
            prog="kvl-sft",
            description="Supervised fine-tuning for Kimi-VL.",
            config=(FlagCreatePairsOff,),
        )


if __name__ == "__main__":
    main()
