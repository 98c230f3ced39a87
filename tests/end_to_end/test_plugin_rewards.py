"""An installed reward plugin in a real run, beside one that crashes and one that hangs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "answer_style"

BROKEN = '''
import os
import subprocess
import sys
import time
import zlib


def lot(sample):
    return zlib.crc32((sample.question + sample.response).encode()) % 3


def dies(sample):
    """Ends its process for a third of the samples, as a segmentation fault does."""
    if lot(sample) == 0:
        os._exit(11)
    return 0.0


def leaves(sample, **settings):
    """Starts what would outlive it, and ends its process in its own way for some samples."""
    subprocess.Popen(["sleep", "9999"], start_new_session=True)
    print("not a line of the command's")
    if lot(sample) == 2 and len(sample.response) % 2:
        sys.exit(1)
    return 0.0


def hangs(sample):
    while lot(sample) == 1:
        time.sleep(1)
    return 0.0
'''


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """A folder with the example package, installed, and a module of broken rewards."""
    source = tmp_path_factory.mktemp("source") / "answer_style"
    shutil.copytree(EXAMPLE, source)
    target = tmp_path_factory.mktemp("packages")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"),
            *("--no-build-isolation", "--target", str(target), str(source)),
        ],
        check=True,
    )
    (target / "broken_rewards.py").write_text(BROKEN)
    return target


def test_the_example_package_shapes_the_rewards_of_a_run(workshop, packages, records):
    rewards = [
        {"type": "accuracy"},
        {"type": "brevity", "weight": 0.5, "max_words": 1},
        {"type": "kvl_answer_style:same_language", "weight": 0.25, "start": 1},
    ]
    command = workshop.start(
        "kvl-rl", "train", "rl.yaml", "run_dir=plugin", "iterations=2",
        "rewards=" + yaml.safe_dump(rewards, default_flow_style=True, width=10_000).strip(),
        PYTHONPATH=str(packages),
    ).wait()  # fmt: skip
    assert command.process.returncode == 0, command.stderr
    assert command.left_over() == []
    first, second = records(workshop.folder / "plugin/metrics.jsonl")
    assert 0 < first["reward/brevity"] <= 0.5
    assert "reward/kvl_answer_style:same_language" not in first
    assert second["reward/kvl_answer_style:same_language"] == pytest.approx(0.25)
    assert first["invalid_share"] == second["invalid_share"] == 0
    transcript = records(workshop.folder / "plugin/transcripts/iteration_000001.jsonl")
    for sample in transcript[0]["responses"]:
        assert sample["reward"] == pytest.approx(sum(sample["parts"].values()))


def test_plugins_that_crash_or_hang_cost_their_samples_and_not_the_run(workshop, packages, records):
    rewards = [
        {"type": "accuracy"},
        {"type": "broken_rewards:dies", "timeout_seconds": 60},
        {"type": "broken_rewards:hangs", "timeout_seconds": 1},
        {"type": f"{packages}/broken_rewards.py:leaves", "any": 1, "memory_gib": 1},
    ]
    command = workshop.start(
        "kvl-rl", "train", "rl.yaml", "run_dir=broken", "iterations=1",
        "rewards=" + yaml.safe_dump(rewards, default_flow_style=True, width=10_000).strip(),
        PYTHONPATH=str(packages),
    ).wait()  # fmt: skip
    assert command.process.returncode == 0, command.stderr
    assert command.left_over() == []
    assert "not a line" not in command.stdout
    (metrics,) = records(workshop.folder / "broken/metrics.jsonl")
    assert 0 < metrics["invalid_share"] < 1
    reasons = " ".join(
        line["reason"] for line in records(workshop.folder / "broken/failures.jsonl")
    )
    assert "reward broken_rewards:dies: worker died" in reasons
    assert "reward broken_rewards:hangs: killed after 1 s" in reasons
    assert "reward/broken_rewards.py:leaves" in metrics
