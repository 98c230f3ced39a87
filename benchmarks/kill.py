"""Kills a synchronous run at random moments, resumes it each time, and compares the end.

    python benchmarks/kill.py --checkpoint runs/demo/sft/final --problems runs/demo/problems/rl

One run of 30 iterations is left alone; another gets SIGKILL on its driver `--kills` times, each
after a random time, and is started again with the same command. Metrics (clocks aside) and the
exported weights must then be equal bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

BIN = Path(sys.executable).parent
ITERATIONS = 30
MOST_FAILURES = 5


def config(folder: Path, checkpoint: Path, problems: Path) -> Path:
    """A small deterministic run: a checkpoint every third iteration, an evaluation every tenth.

    With partial rollouts, so that most checkpoints hold responses that are not finished.
    """
    tree = {
        "run_dir": "to be overridden",
        "checkpoint": str(checkpoint.resolve()),
        "problems": {"path": str((problems / "train.jsonl").resolve())},
        "evaluation": {
            "problems": {"path": str((problems / "heldout.jsonl").resolve()), "limit": 8},
            "samples": 2,
            "every": 10,
        },
        "iterations": ITERATIONS,
        "checkpoint_every": 3,
        "rollout": {
            "problems_per_iteration": 6,
            "samples_per_problem": 2,
            # About half of the groups are finished by then; the others wait.
            "max_response_tokens": 72,
            "truncated": "continue",
            "max_total_tokens": 144,
            "engine": {
                "dtype": "float32",
                "max_model_len": 512,
                "deterministic": True,
                "threads": 2,
            },
        },
        # Momentum that survives the iterations, so that the optimizer's state counts.
        "learner": {
            "minibatches": 2,
            "reset_optimizer": False,
            "optimizer": {"learning_rate": 3e-5, "eps": 1e-8},
            "precision": {"threads": 2},
        },
        "choosing": {"prioritized": True},
        "grader": {"timeout_seconds": 10},
        "trackers": [],
    }
    path = folder / "kill.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def train(settings: Path, run_dir: Path) -> subprocess.Popen[bytes]:
    log = (run_dir.parent / f"{run_dir.name}.log").open("ab")
    return subprocess.Popen(
        [str(BIN / "kvl-rl"), "train", str(settings), f"run_dir={run_dir}"],
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def metrics(run_dir: Path) -> list[dict]:
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [
        {
            name: value
            for name, value in json.loads(line).items()
            if "second" not in name and name != "timestamp"
        }
        for line in lines
    ]


def weights(run_dir: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((run_dir / "final").iterdir())
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("runs/kill"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kill.json"))
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    folder = options.folder.resolve()
    settings = config(folder, options.checkpoint, options.problems)

    straight, killed = folder / "straight", folder / "killed"
    started = time.monotonic()
    if train(settings, straight).wait():
        sys.exit(f"the unkilled run failed: see {folder}/straight.log")
    seconds = time.monotonic() - started

    rng = random.Random(options.seed)
    moments, failures = [], 0
    while len(moments) < options.kills:
        process = train(settings, killed)
        # Anywhere from the start of its processes to well into its iterations.
        delay = rng.uniform(2.0, 0.9 * seconds)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            done = len(metrics(killed)) if (killed / "metrics.jsonl").exists() else 0
            moments.append({"after_seconds": round(delay, 1), "iterations_logged": done})
            print(f"kill {len(moments)}: after {delay:.1f} s, {done} iterations logged", flush=True)
            continue
        if process.returncode:
            # As when Ray does not come up in its 30 s on a crowded machine: the next one resumes.
            failures += 1
            if failures > MOST_FAILURES:
                sys.exit(f"{failures} runs ended by themselves: see {folder}/killed.log")
            print(f"a run ended with status {process.returncode}: see its log", flush=True)
            continue
        # It ended before its time: begin a new one, every kill has to hit a run.
        keep = folder / f"finished_{len(moments)}"
        compare(straight, killed)
        killed.rename(keep)
    if train(settings, killed).wait():
        sys.exit(f"the last resume failed: see {folder}/killed.log")
    compare(straight, killed)
    result = {
        "kills": moments,
        "runs_that_failed_by_themselves": failures,
        "iterations": ITERATIONS,
        "seconds_unkilled": round(seconds, 1),
        "metrics_equal": True,
        "weights_equal": True,
        "weights": weights(straight),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{len(moments)} kills: metrics and weights are equal bit for bit → {options.out}")


def compare(straight: Path, killed: Path) -> None:
    """Exits with what differs."""
    expected, found = metrics(straight), metrics(killed)
    if len(expected) != len(found):
        sys.exit(f"{len(found)} iterations are logged, not {len(expected)}")
    for one, other in zip(expected, found, strict=True):
        different = [name for name in one if one[name] != other.get(name)]
        if different:
            sys.exit(f"iteration {one['iteration']} differs in {', '.join(different)}")
    if weights(straight) != weights(killed):
        sys.exit("the exported weights differ")


if __name__ == "__main__":
    main()
