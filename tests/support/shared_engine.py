"""One vLLM engine for every test that needs some engine: starting one takes half a minute."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import ray
from kvl.configs.rollout import EngineConfig, RepetitionStop, RolloutConfig
from kvl.kimi_vl_model.checkpoint import iterate_tensors
from kvl.rollouts.fleet import Fleet, WorkerError
from kvl.rollouts.types import SamplingSettings
from kvl.rollouts.weights.weight_buckets import weight_buckets

LARGEST = EngineConfig(dtype="float32", max_model_len=4096, max_num_seqs=64)
# More than the responses of runs that are about something else have.
REPETITION_STOP = RepetitionStop(tokens=25)


class SharedEngine:
    """Serves one checkpoint after the other; the weights of the first are the engine's start."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._fleet: Fleet | None = None

    def start(self) -> Fleet:
        """Unless it runs; a test may have killed its worker."""
        try:
            if self._fleet is not None:
                self._fleet.weight_versions()
        except WorkerError:
            self.close()
        if self._fleet is None:
            config = RolloutConfig(engine=LARGEST, repetition_stop=REPETITION_STOP)
            self._fleet = Fleet(self._checkpoint, config)
        return self._fleet

    def serve(self, checkpoint: Path, engine: EngineConfig) -> Fleet:
        """The fleet as if it had been started so: weights of `checkpoint`, version 0, no caches."""
        assert engine.dtype == LARGEST.dtype
        assert engine.max_model_len <= LARGEST.max_model_len
        fleet = self.start()
        tensors = ((name, tensor) for name, tensor, _file in iterate_tensors(checkpoint))
        fleet.sync_weights(weight_buckets(tensors), 0)
        # Caches go by weight version. Sampling nothing empties them, in this mode only.
        _settle(fleet, engine.model_copy(update={"deterministic": True}))
        fleet.generate([], SamplingSettings())
        _settle(fleet, engine)
        return fleet

    def close(self) -> None:
        if self._fleet is not None:
            self._fleet.shutdown()
            self._fleet = None


def _settle(fleet: Fleet, engine: EngineConfig) -> None:
    """What a worker itself has of its start: the length limit and the order of sampling, and the
    folder that relative paths of images start from."""

    def settle(self: Any, engine: EngineConfig, folder: str) -> None:
        self._config = engine
        os.chdir(folder)

    worker: Any
    for worker in fleet.workers:
        ray.get(worker.__ray_call__.remote(settle, engine, os.getcwd()))
