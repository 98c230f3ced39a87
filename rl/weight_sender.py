"""Weights from learner ranks to engines over vLLM's own `nccl` or `ipc` backends (GPU only).

Not run yet: it needs GPUs. On a CPU the `shared_memory` backend goes through
`LearnerGroup.weights` and `Fleet.sync_weights` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, TrainerInitInfo, WeightSource
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from ..configs.rl import EngineConfig
from ..kimi_vl_model.checkpoint import published_tensors
from ..rollouts.sync_client import SyncClient

State = Callable[[], Iterable[tuple[str, torch.Tensor]]]


class PublishedWeights(WeightSource):
    """The policy under published names, gathered and cast one tensor at a time."""

    def __init__(self, shapes: State, tensors: State, dtype: torch.dtype) -> None:
        self.shapes, self.tensors, self.dtype = shapes, tensors, dtype

    def metadata(self) -> list[ParamMeta]:
        described = (
            (name, torch.empty(tensor.shape, device="meta")) for name, tensor in self.shapes()
        )
        return [
            ParamMeta(name, self.dtype, tuple(tensor.shape))
            for name, tensor in published_tensors(described)
        ]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in published_tensors(self.tensors()):
            yield name, tensor.to(self.dtype)


class WeightSender:
    """One rank's end of the transfer; every rank must build it and call `send` alike."""

    def __init__(
        self,
        source: PublishedWeights,
        actors: Sequence[Any],
        engine: EngineConfig,
        *,
        rank: int,
        host: str,
        port: int,
    ) -> None:
        self.client = SyncClient(actors, engine.tensor_parallel_size)
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
