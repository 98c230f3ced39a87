"""The policy's weights on their way out of a learner rank: to the engines, into checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from torch import nn

from ...configs.rollout import EngineConfig
from ...kimi_vl_model.checkpoint import export_checkpoint, published_tensors
from ...kimi_vl_model.tuning.adapters import (
    adapter_tensors,
    changing_tensors,
    merged_state,
    plain_state,
    save_adapter,
)
from ...rollouts.weights.weight_buckets import weight_buckets
from .parallelism import RankAddress

if TYPE_CHECKING:
    from ...rollouts.weights.weight_sender import WeightSender


class PolicyWeights:
    """Whole tensors under published names, one at a time, adapters merged into them.

    The first sync sends every tensor, later ones those that training can change: engines keep
    what an update leaves out (`rollouts/weight_transfer.py`). Ranks gather sharded tensors
    together, so all of them must call the same methods in the same order; what leaves the
    learner is rank 0's.
    """

    def __init__(self, model: nn.Module, adapters: PeftModel | None, address: RankAddress) -> None:
        self.model = model
        self.adapters = adapters
        self.address = address
        self.changing = changing_tensors(model)
        self.engines_hold_the_rest = False
        self._buckets: Iterator[dict[str, Any]] | None = None
        self._sender: WeightSender | None = None

    def shapes(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What the next sync will send, as empty tensors; nothing is gathered."""
        return published_tensors(
            (name, torch.empty(tensor.shape, device="meta"))
            for name, tensor in plain_state(self.model)
            if not self.engines_hold_the_rest or name in self.changing
        )

    def published(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors of the next sync, in the order of `shapes`."""
        only = self.changing if self.engines_hold_the_rest else None
        return published_tensors(merged_state(self.model, only))

    def next_bucket(self) -> dict[str, Any] | None:
        """Of this sync, for `Fleet.sync_weights`; None after the last one."""
        if self._buckets is None:
            self._buckets = weight_buckets(self.published())
        bucket = next(self._buckets, None)
        if bucket is None:
            self._buckets = None
            self.engines_hold_the_rest = True
        return bucket

    def send(
        self, actors: Sequence[Any], engine: EngineConfig, version: int, host: str, port: int
    ) -> None:
        """Broadcast a sync over vLLM's nccl or ipc backend instead (GPU only)."""
        # vLLM takes seconds to import, and a learner that shares memory does not need it.
        from ...rollouts.weights.weight_sender import WeightSender

        if self._sender is None:
            self._sender = WeightSender(
                self, actors, engine, rank=self.address.rank, host=host, port=port
            )
        self._sender.send(version)
        self.engines_hold_the_rest = True

    def export(self, source: Path, folder: Path, adapter: Path) -> None:
        """Write the merged policy in the layout of the checkpoint `source` and, if it has
        adapters, these alone for peft; from rank 0."""
        first = self.address.rank == 0
        if self.adapters is not None:
            tensors = adapter_tensors(self.adapters)
            if first:
                save_adapter(self.adapters, tensors, source, adapter)
        state = merged_state(self.model)
        if first:
            export_checkpoint(state, source, folder)
        else:
            for _ in state:
                pass
