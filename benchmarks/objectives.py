"""Every objective from one supervised checkpoint with the same rollout budget, several seeds.

    python benchmarks/objectives.py --checkpoint runs/demo/sft/final \\
        --problems runs/demo/problems/rl

Accuracy is that of the iteration's own rollouts: each iteration asks for problems that were not
trained on before, so it is sampled accuracy on new problems. Writes objectives.json and a PNG with
accuracy against rollouts and against seconds. Runs that are complete are not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from kvl.configs.objectives import BUILTIN

BIN = Path(sys.executable).parent
PROBLEMS, SAMPLES = 16, 8
# Token-level objectives average over tokens: their gradients are smaller by about the response's
# length, which AdamW's normalisation takes out again. One learning rate serves all.
TAU = {"mirror_descent": 0.05}


def run(name: str, seed: int, iterations: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    folder = options.folder / name / f"seed{seed}"
    path = folder / "metrics.jsonl"
    if not (folder / "final").is_dir():
        objective: dict[str, Any] = {"name": name}
        if name in TAU:
            objective["tau"] = TAU[name]
        command = [
            str(BIN / "kvl-rl"),
            "train",
            "rl/demo",
            f"run_dir={folder}",
            f"checkpoint={options.checkpoint}",
            f"problems.path={options.problems / 'train.jsonl'}",
            "evaluation=null",
            f"iterations={iterations}",
            f"rollout.problems_per_iteration={PROBLEMS}",
            f"rollout.samples_per_problem={SAMPLES}",
            f"objective={json.dumps(objective)}",
            f"seed={seed}",
            "checkpoint_every=1000",
            "trackers=[]",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    seconds, total = [], 0.0
    for record in records:
        total += sum(
            record[f"seconds_{stage}"] for stage in ("rollout", "grade", "reference", "learn")
        )
        seconds.append(round(total, 1))
    accuracy = [round(record["accuracy"], 4) for record in records]
    return {
        "accuracy": accuracy,
        "rollouts": [(i + 1) * PROBLEMS * SAMPLES for i in range(len(records))],
        "seconds": seconds,
        "first_quarter": round(mean(accuracy[: len(accuracy) // 4]), 4),
        "last_quarter": round(mean(accuracy[-(len(accuracy) // 4) :]), 4),
        "tokens_per_correct_last": records[-1]["tokens_per_correct"],
        "entropy_last": records[-1]["entropy"],
    }


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for name, seeds in results.items():
        curves = [seed["accuracy"] for seed in seeds.values()]
        middle = [mean(values) for values in zip(*curves, strict=True)]
        first = next(iter(seeds.values()))
        seconds = [mean(v) for v in zip(*(s["seconds"] for s in seeds.values()), strict=True)]
        for axis, x in ((axes[0], first["rollouts"]), (axes[1], seconds)):
            axis.plot(x, middle, label=name, linewidth=1.8)
            low, high = (
                [min(v) for v in zip(*curves, strict=True)],
                [max(v) for v in zip(*curves, strict=True)],
            )
            axis.fill_between(x, low, high, alpha=0.08)
    axes[0].set(xlabel="rollouts", ylabel="sampled accuracy on new problems", ylim=(0, 1))
    axes[1].set(xlabel="seconds of rollout, grading and learning")
    axes[1].legend(frameon=False, fontsize=9)
    for axis in axes:
        axis.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Objectives side by side.")
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--objectives", nargs="+", default=list(BUILTIN))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--iterations", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objectives.json"))
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    for seed in options.seeds:
        for name in options.objectives:
            records = run(name, seed, options.iterations, options)
            results.setdefault(name, {})[str(seed)] = summary(records)
            last = results[name][str(seed)]["last_quarter"]
            print(f"seed {seed} {name}: accuracy of the last quarter {last:.3f}", flush=True)
    base = mean(seed["last_quarter"] for seed in results["mirror_descent"].values())
    for name, seeds in results.items():
        average = mean(seed["last_quarter"] for seed in seeds.values())
        print(f"{name:22} {average:.3f}  ×{average / base:.2f} of mirror_descent")
    options.out.write_text(
        json.dumps(
            {
                "iterations": options.iterations,
                "rollouts_per_iteration": PROBLEMS * SAMPLES,
                "config": "rl/demo",
                "objectives": results,
            },
            indent=1,
        )
        + "\n"
    )
    plot(results, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
