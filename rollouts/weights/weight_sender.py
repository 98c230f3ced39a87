"""Weights from learner ranks to engines over vLLM's own `nccl` or `ipc` backends (GPU only).

Not run yet: it needs GPUs. On a CPU the `shared_memory` backend goes through
`LearnerGroup.weights` and `Fleet.sync_weights` instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, TrainerInitInfo, WeightSource
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from ...configs.rollout import EngineConfig
from .sync_client import SyncClient


class OutgoingTensors(Protocol):
    """What the learner offers: both alike in names and order, anew at every sync."""

    def shapes(self) -> Iterator[tuple[str, torch.Tensor]]: ...

    def published(self) -> Iterator[tuple[str, torch.Tensor]]: ...


class PublishedWeights(WeightSource):
    """What a sync sends, gathered, merged and cast one tensor at a time.

    vLLM's senders ask for both anew at every sync, so a later one may be a part of the first.
    """

    def __init__(self, weights: OutgoingTensors, dtype: torch.dtype) -> None:
        self.weights, self.dtype = weights, dtype

    def metadata(self) -> list[ParamMeta]:
        return [
            ParamMeta(name, self._sent_as(name), tuple(tensor.shape))
            for name, tensor in self.weights.shapes()
        ]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self.weights.published():
            yield name, tensor.to(self._sent_as(name))

    def _sent_as(self, name: str) -> torch.dtype:
        # The engine keeps this one in fp32 too: rounded, it would choose other experts.
        return torch.float32 if name.endswith("e_score_correction_bias") else self.dtype


class WeightSender:
    """One rank's end of the transfer; every rank must build it and call `send` alike."""

    def __init__(
        self,
        weights: OutgoingTensors,
        actors: Sequence[Any],
        engine: EngineConfig,
        *,
        rank: int,
        host: str,
        port: int,
    ) -> None:
        self.client = SyncClient(actors, engine.tensor_parallel_size)
        source = PublishedWeights(weights, getattr(torch, engine.dtype))
        info: TrainerInitInfo
        if engine.weight_transfer == "nccl":
            # Only rank 0 joins the engines' group; the other ranks help it gather.
            info = NCCLTrainerInitInfo(host, port, self.client.engine_ranks + 1, rank=rank)
        else:
            info = IPCTrainerInitInfo(rank=rank)
        self.engine = WeightTransferTrainerFactory.trainer_init(
            info, client=self.client, source=source
        )

    def send(self, version: int) -> None:
        self.client.version = version
        self.engine.send_weights()
