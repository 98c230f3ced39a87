"""A weight sync over shared memory against memcpy of the same tensors, round by round.

`python benchmarks/sync.py` writes benchmarks/results/sync.json. A random checkpoint of the
published widths and about 1 GB of bf16 (two decoder layers, 48 experts) is sent to one engine by
this process, which stands in for a learner whose tensors are gathered already. Stages overlap: what
is written while the engine loads is in both. `--idle` says that nothing else ran on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from kvl.configs.rollout import EngineConfig, RolloutConfig
from kvl.kimi_vl_model.files.stored_tensors import iterate_tensors
from kvl.kimi_vl_model.tiny import TINY_TEXT, TINY_VISION, write_tiny_checkpoint
from kvl.problems.synthetic.texts import written_texts
from kvl.rollouts.fleet import Fleet
from kvl.rollouts.weights.weight_buckets import weight_buckets

OUT = Path(__file__).resolve().parent / "results" / "sync.json"
TEXT = {
    **TINY_TEXT,
    "hidden_size": 2048,
    "intermediate_size": 11264,
    "moe_intermediate_size": 1408,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "n_routed_experts": 48,
    "num_experts_per_tok": 6,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}
STAGES = ("write", "pause", "load_waited_for", "finish")


class Clock:
    """Seconds by stage of one round."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            with self.stage(name):
                return call(*arguments)

        return run

    def writes(self, updates: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        updates = iter(updates)
        while True:
            with self.stage("write"):
                update = next(updates, None)
            if update is None:
                return
            yield update


def memcpy(tensors: list[torch.Tensor], targets: list[torch.Tensor]) -> float:
    started = time.perf_counter()
    for tensor, target in zip(tensors, targets, strict=True):
        target.copy_(tensor)
    return time.perf_counter() - started


def sync(fleet: Fleet, named: list[tuple[str, torch.Tensor]], version: int) -> dict[str, float]:
    clock = Clock()
    begin, finish, gather = fleet.begin_update, fleet.finish_update, fleet._gather
    paused: list[float] = []

    def timed_begin() -> None:
        paused.append(time.perf_counter())
        clock.timed("pause", begin)()

    def timed_gather(doing: str, references: Any) -> Any:
        if doing != "loading weights":
            return gather(doing, references)
        return clock.timed("load_waited_for", gather)(doing, references)

    vars(fleet).update(
        begin_update=timed_begin, finish_update=clock.timed("finish", finish), _gather=timed_gather
    )
    started = time.perf_counter()
    fleet.sync_weights(clock.writes(weight_buckets(named)), version)
    ended = time.perf_counter()
    for name in ("begin_update", "finish_update", "_gather"):
        del vars(fleet)[name]
    return {**clock.seconds, "paused": ended - paused[0], "total": ended - started}


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_tiny_checkpoint(
            Path(folder) / "checkpoint",
            written_texts(),
            text_config=TEXT,
            vision_config=TINY_VISION,
            dtype=torch.bfloat16,
        )
        named = [(name, tensor.clone()) for name, tensor, _file in iterate_tensors(checkpoint)]
        tensors = [tensor for _name, tensor in named]
        targets = [torch.zeros_like(tensor) for tensor in tensors]
        size = sum(tensor.nbytes for tensor in tensors)
        engine = EngineConfig(dtype="bfloat16", max_model_len=512, max_num_seqs=4)
        copies: list[float] = []
        syncs: list[dict[str, float]] = []
        with Fleet(checkpoint, RolloutConfig(workers=1, engine=engine)) as fleet:
            fleet.weight_versions()  # waits for the engine
            first = sync(fleet, named, 1)  # makes the files that later ones find
            for version in range(2, options.rounds + 2):
                copies.append(memcpy(tensors, targets))
                syncs.append(sync(fleet, named, version))
                print(f"memcpy {copies[-1]:.3f} s, sync {syncs[-1]['total']:.3f} s", flush=True)
    copied = statistics.median(copies)
    result = {
        "machine": {"cores": os.cpu_count(), "processor": platform.machine()},
        "idle_machine": options.idle,
        "bytes": size,
        "tensors": len(tensors),
        "rounds": options.rounds,
        "memcpy_seconds": spread(copies),
        "first_sync_seconds": {name: round(value, 4) for name, value in first.items()},
        "sync_seconds": {
            name: spread([one[name] for one in syncs]) for name in (*STAGES, "paused", "total")
        },
        "memcpy_gb_per_second": round(size / copied / 1e9, 2),
        "sync_gb_per_second": round(
            size / statistics.median(one["total"] for one in syncs) / 1e9, 2
        ),
        "share_of_memcpy": round(copied / statistics.median(one["total"] for one in syncs), 3),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
