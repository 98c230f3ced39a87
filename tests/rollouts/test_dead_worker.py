"""A worker that is killed at work; the next test of the engine starts another."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from kvl.configs.rollout import EngineConfig
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.problems.synthetic.texts import written_texts
from kvl.problems.types import AnswerType, Problem
from kvl.rollouts.fleet import WorkerError
from kvl.rollouts.types import SamplingSettings
from shared_engine import SharedEngine

PROBLEMS = [Problem("text", "How many dots?", (), "1", AnswerType.NUMBER)]


def test_a_dead_worker_is_one_clear_error_and_leaves_no_process(
    shared_engine: SharedEngine, tmp_path: Path
) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "tiny", written_texts())
    fleet = shared_engine.serve(checkpoint, EngineConfig(dtype="float32", max_model_len=512))
    place: dict[str, Any] = ray.get(fleet.workers[0].place.remote())  # pyright: ignore
    engine = [
        child.pid
        for child in psutil.Process(place["pid"]).children(recursive=True)
        if "EngineCore" in " ".join(child.cmdline())
    ]
    assert len(engine) == 1
    os.kill(place["pid"], signal.SIGKILL)
    with pytest.raises(WorkerError, match=rf"rollout worker 0 \(pid {place['pid']} on .*resume"):
        fleet.generate(PROBLEMS, SamplingSettings(1, max_response_tokens=400))
    deadline = time.monotonic() + 10
    while psutil.pid_exists(engine[0]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not psutil.pid_exists(engine[0])
