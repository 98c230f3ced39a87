"""What curriculum, prioritized sampling and the length reward each change, over four levels.

    python benchmarks/ablations.py

One supervised checkpoint; from it, with the same number of rollouts, a plain run and one run for
each change alone, several seeds. All are judged on the same held-out problems of levels 1 to 4:
sampled accuracy and tokens per correct answer. Writes ablations.json and a PNG. Runs that are
complete are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

BIN = Path(sys.executable).parent
LEVELS = ["1", "2", "3", "4"]
SFT_PROBLEMS, RL_PROBLEMS, HELDOUT_PROBLEMS = 12288, 6000, 240
ITERATIONS, PROBLEMS, SAMPLES = 20, 16, 8
# A second look, which most demonstrations take, fits at level 1 and never above.
RECHECK_SHARE = 0.6
# Its cap alone makes answers short. What the length reward does shows where a second look fits.
CAPS = {"plain": 100, "roomy": 220}
# What each variant is compared with, whose cap it has, and what it changes.
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "plain": ("plain", []),
    "easy_to_hard": (
        "plain",
        ["choosing.curriculum=easy_to_hard", "choosing.curriculum_iterations=12"],
    ),
    "uniform_then_hard": (
        "plain",
        ["choosing.curriculum=uniform_then_hard", "choosing.curriculum_iterations=10"],
    ),
    "prioritized": ("plain", ["choosing.prioritized=true"]),
    "roomy": ("roomy", []),
    "roomy_length_reward": (
        "roomy",
        ['rewards=[{"type": "accuracy"}, {"type": "length", "weight": 0.2, "start": 5}]'],
    ),
}


def call(*command: str) -> None:
    subprocess.run([str(BIN / command[0]), *command[1:]], check=True, stdout=subprocess.DEVNULL)


def prepare(folder: Path) -> None:
    """The model, problems of all four levels, and the one supervised checkpoint."""
    tiny = folder / "tiny"
    if not tiny.is_dir():
        call("kvl-sft", "init-tiny", str(tiny), "--seed", "0")
    for name, count, seed in (("sft", SFT_PROBLEMS, 0), ("rl", RL_PROBLEMS, 1000)):
        out = folder / "problems" / name
        if not (out / "heldout.jsonl").is_file():
            call(
                *("kvl-sft", "generate", str(out), "--train", str(count)),
                *("--heldout", str(HELDOUT_PROBLEMS), "--families", "compare"),
                *("--levels", *LEVELS, "--recheck-share", str(RECHECK_SHARE)),
                *("--seed", str(seed)),
            )
    if not (folder / "sft" / "final").is_dir():
        call(
            *("kvl-sft", "train", "sft/demo", f"run_dir={folder / 'sft'}", f"checkpoint={tiny}"),
            f"problems.path={folder / 'problems' / 'sft' / 'train.jsonl'}",
        )


def run(folder: Path, variant: str, seed: int) -> Path:
    base, changes = VARIANTS[variant]
    run_dir = folder / variant / f"seed{seed}"
    problems = folder / "problems" / "rl"
    if not (run_dir / "evaluation" / "after.json").is_file():
        call(
            *("kvl-rl", "train", "rl/demo", f"run_dir={run_dir}"),
            f"checkpoint={folder / 'sft' / 'final'}",
            f"problems.path={problems / 'train.jsonl'}",
            f"evaluation.problems.path={problems / 'heldout.jsonl'}",
            f"iterations={ITERATIONS}",
            f"rollout.problems_per_iteration={PROBLEMS}",
            f"rollout.samples_per_problem={SAMPLES}",
            f"rollout.max_response_tokens={CAPS[base]}",
            *(f"seed={seed}", "checkpoint_every=1000", "trackers=[]"),
            *changes,
        )
    return run_dir


def judged(run_dir: Path, name: str) -> dict[str, dict[str, float]]:
    """Of one evaluation's sampled responses, by level and over all."""
    rows = [
        json.loads(line)
        for line in (run_dir / "evaluation" / f"{name}.jsonl").read_text().splitlines()
    ]
    table = {}
    for level in [*LEVELS, "all"]:
        drawn = [
            sample
            for row in rows
            if level in ("all", str(row["level"]))
            for sample in row["responses"]
            if sample["temperature"] > 0
        ]
        right = sum(
            sample["outcome"] == "correct" and sample["stop_reason"] == "stop" for sample in drawn
        )
        tokens = sum(sample["tokens"] for sample in drawn)
        table[level] = {
            "accuracy": right / len(drawn),
            "tokens": tokens / len(drawn),
            "tokens_per_correct": tokens / right if right else float("nan"),
        }
    return table


def averaged(tables: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        level: {key: round(mean(t[level][key] for t in tables), 4) for key in tables[0][level]}
        for level in tables[0]
    }


def plot(means: dict[str, Any], spread: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 5))
    width = 0.8 / len(means)
    for number, (name, table) in enumerate(means.items()):
        places = [position + (number - len(means) / 2 + 0.5) * width for position in range(5)]
        for axis, key in ((axes[0], "accuracy"), (axes[1], "tokens_per_correct")):
            axis.bar(places, [row[key] for row in table.values()], width * 0.92, label=name)
        if name in spread:
            axes[0].vlines(places[-1], min(spread[name]), max(spread[name]), color="black", lw=1)
    for axis in axes:
        axis.set_xticks(range(5), [f"level {level}" for level in LEVELS] + ["all"])
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    axes[0].set(title="sampled accuracy, held-out (line: the seeds)", ylim=(0, 1))
    axes[1].set(title="tokens per correct answer", yscale="log", ylim=(40, None))
    ticks = [50, 100, 200, 400, 800]
    axes[1].set_yticks(ticks, [str(tick) for tick in ticks])
    axes[1].minorticks_off()
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncols=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Curriculum, priorities and length reward.")
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ablations.json"))
    options = parser.parse_args()
    prepare(options.folder)
    before: dict[str, list[dict[str, dict[str, float]]]] = {}
    after: dict[str, dict[str, dict[str, dict[str, float]]]] = {name: {} for name in VARIANTS}
    for seed in options.seeds:
        for name in VARIANTS:
            run_dir = run(options.folder, name, seed)
            after[name][str(seed)] = table = judged(run_dir, "after")
            if name in CAPS:
                before.setdefault(f"{name}_before", []).append(judged(run_dir, "before"))
            print(
                f"seed {seed} {name:19} accuracy {table['all']['accuracy']:.3f}, "
                f"{table['all']['tokens_per_correct']:.0f} tokens per correct answer",
                flush=True,
            )
    means: dict[str, dict[str, dict[str, float]]] = {}
    for name, seeds in after.items():
        if name in CAPS:
            means[f"{name}_before"] = averaged(before[f"{name}_before"])
        means[name] = averaged(list(seeds.values()))
    for name in VARIANTS:
        other, _changes = VARIANTS[name]
        row, base = means[name]["all"], means[other]["all"]
        print(
            f"{name:19} accuracy {row['accuracy']:.3f} (×{row['accuracy'] / base['accuracy']:.2f} "
            f"of {other}), tokens per correct answer {row['tokens_per_correct']:.0f} "
            f"(×{row['tokens_per_correct'] / base['tokens_per_correct']:.2f})"
        )
    result = {
        "iterations": ITERATIONS,
        "rollouts_per_iteration": PROBLEMS * SAMPLES,
        "response_caps": CAPS,
        "variants": VARIANTS,
        "means": means,
        "seeds": after,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    spread = {
        name: [table["all"]["accuracy"] for table in seeds.values()]
        for name, seeds in after.items()
    }
    plot(means, spread, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
