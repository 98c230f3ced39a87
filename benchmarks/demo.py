"""The whole recipe on the embedded tiny model, through the same commands a user types.

    python benchmarks/demo.py --run-dir runs/demo        what `make demo` runs
    python benchmarks/demo.py --run-dir runs/seeds --seeds 0 1 2 --out benchmarks/results/demo.json

Each finished stage is kept: the same command again continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

FAMILIES = ["counting", "compare"]
LEVELS = ["1"]
SFT_PROBLEMS, RL_PROBLEMS, HELDOUT_PROBLEMS = 5120, 4000, 240
# So many demonstrations go over everything twice, which the token budget of the RL stage does not
# allow for: what the reinforcement stage has to find out is when a second look pays.
RECHECK_SHARE = 0.6
BIN = Path(sys.executable).parent


def run(title: str, *command: str) -> float:
    """Run one command in the foreground; returns its seconds, leaves on failure."""
    print(f"\n== {title}\n   {' '.join(command)}", flush=True)
    started = time.monotonic()
    result = subprocess.run([str(BIN / command[0]), *command[1:]], check=False)
    if result.returncode:
        sys.exit(result.returncode)
    return time.monotonic() - started


def demo(folder: Path, seed: int) -> dict:
    """One seed through tokenizer and model, problems, SFT, RL, evaluation and report."""
    tiny, problems, sft, rl = (folder / name for name in ("tiny", "problems", "sft", "rl"))
    stages = stage_times(folder)

    def stage(name: str, done: Path, *command: str) -> None:
        if not done.exists():
            seconds = run(name, *command)
            stages[name] = round(stages.get(name, 0) + seconds, 1)
            (folder / "stages.json").write_text(json.dumps(stages, indent=2))

    folder.mkdir(parents=True, exist_ok=True)
    stage("tiny checkpoint", tiny, "kvl-sft", "init-tiny", str(tiny), "--seed", str(seed))
    for name, count, offset in (("sft", SFT_PROBLEMS, 0), ("rl", RL_PROBLEMS, 1000)):
        out = problems / name
        stage(
            f"{name} problems",
            out / "heldout.jsonl",
            *("kvl-sft", "generate", str(out), "--train", str(count)),
            *("--heldout", str(HELDOUT_PROBLEMS), "--families", *FAMILIES, "--levels", *LEVELS),
            *("--recheck-share", str(RECHECK_SHARE), "--seed", str(seed + offset)),
        )
    stage(
        "supervised fine-tuning",
        sft / "final",
        *("kvl-sft", "train", "configs/sft/demo.yaml", f"run_dir={sft}", f"checkpoint={tiny}"),
        *(f"problems.path={problems / 'sft' / 'train.jsonl'}", f"seed={seed}"),
    )
    stage(
        "reinforcement learning",
        rl / "evaluation" / "after.json",
        *("kvl-rl", "train", "configs/rl/demo.yaml", f"run_dir={rl}"),
        *(f"checkpoint={sft / 'final'}", f"problems.path={problems / 'rl' / 'train.jsonl'}"),
        *(f"evaluation.problems.path={problems / 'rl' / 'heldout.jsonl'}", f"seed={seed}"),
    )
    stage("report", rl / "report.html", "kvl-rl", "report", str(rl))
    return summarise(folder, stages)


def stage_times(folder: Path) -> dict[str, float]:
    path = folder / "stages.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def summarise(folder: Path, stages: dict[str, float]) -> dict:
    """`summary.json`: accuracy on held-out problems after SFT and after RL."""
    evaluation = folder / "rl" / "evaluation"
    before = json.loads((evaluation / "before.json").read_text())
    after = json.loads((evaluation / "after.json").read_text())
    metrics = [json.loads(line) for line in (folder / "rl" / "metrics.jsonl").open()]
    summary = {
        "sft": {
            "pass_at_1": before["pass_at_1"],
            "greedy": before["greedy"],
            "seconds": stages["supervised fine-tuning"],
        },
        "rl": {
            "pass_at_1": after["pass_at_1"],
            "greedy": after["greedy"],
            "iterations": len(metrics),
            "seconds": stages["reinforcement learning"],
            "largest_log_prob_difference": max(row["mismatch_max"] for row in metrics),
        },
        "heldout_problems": after["problems"],
        "by_family": {
            name: {
                "sft": before["by_family"][name]["pass_at_1"],
                "rl": after["by_family"][name]["pass_at_1"],
                "problems": after["by_family"][name]["problems"],
            }
            for name in after["by_family"]
        },
        "stages": stages,
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description="The whole recipe on the tiny model.")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, help="write all seeds' summaries to this file")
    options = parser.parse_args()
    summaries = {}
    for seed in options.seeds:
        folder = options.run_dir if len(options.seeds) == 1 else options.run_dir / f"seed{seed}"
        summaries[str(seed)] = summary = demo(folder, seed)
        sft, rl = summary["sft"], summary["rl"]
        print(
            f"\nheld-out problems {summary['heldout_problems']}, "
            f"pass@1 {sft['pass_at_1']:.3f} → {rl['pass_at_1']:.3f}, "
            f"greedy {sft['greedy']:.3f} → {rl['greedy']:.3f}\n"
            f"summary  {folder / 'summary.json'}\nreport   {folder / 'rl' / 'report.html'}"
        )
    if options.out:
        machine = {"cores": os.cpu_count(), "python": platform.python_version()}
        result = {"machine": machine, "command": " ".join(sys.argv), "seeds": summaries}
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
