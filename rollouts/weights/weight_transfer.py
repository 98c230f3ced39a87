"""The engine's side of the shared-memory weight transfer, a backend of vLLM's own API.

Selected by `WeightTransferConfig(backend="shared_memory")`; `vllm_plugin.register` registers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

from .weight_buckets import read_bucket
from .weight_digest import WeightDigest


@dataclass
class SharedMemoryInitInfo(WeightTransferInitInfo):
    """Nothing to agree on: every update names its own file."""


@dataclass
class SharedMemoryUpdateInfo(WeightTransferUpdateInfo):
    """One bucket, as `weight_buckets` yields it."""

    path: str
    inode: int
    names: list[str]
    dtype_names: list[str]
    shapes: list[list[int]]
    offsets: list[int]
    digest: str


class SharedMemoryWeightTransferEngine(
    WeightTransferEngine[SharedMemoryInitInfo, SharedMemoryUpdateInfo]
):
    """Maps each bucket and loads it through vLLM's layerwise reload: published checkpoint names
    in, the engine's own packed layout out, while requests wait in the paused scheduler.

    An update may leave tensors out, but only whole modules of vLLM's: a layer of which nothing
    comes keeps its weights, one of which a part comes has garbage in place of the rest.
    """

    init_info_cls = SharedMemoryInitInfo
    update_info_cls = SharedMemoryUpdateInfo

    def init_transfer_engine(self, init_info: SharedMemoryInitInfo) -> None:
        return

    def start_weight_update(self) -> None:
        self.received = WeightDigest()
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: SharedMemoryUpdateInfo) -> None:
        tensors = read_bucket(vars(update_info))
        for name, tensor in tensors:
            self.received.add(name, tensor)
        self.model.load_weights(tensors)  # pyright: ignore

    def finish_weight_update(self) -> None:
        reloaded = [
            module
            for module in self.model.modules()
            if hasattr(module, "w13_weight") and _is_reloaded(module)
        ]
        finalize_layerwise_reload(self.model, self.model_config)
        if self.device.type != "cpu":
            return
        # vLLM 0.32 leaves the CPU experts of a reloaded layer in checkpoint layout, and its
        # kernel then computes nonsense from them without an error.
        for module in reloaded:
            method: Any = module.quant_method
            method.moe_kernel.fused_experts.process_weights_after_loading(module)

    def shutdown(self) -> None:
        return


class ReceivedWeights:
    """Mixed into vLLM's workers, for `collective_rpc`."""

    weight_transfer_engine: SharedMemoryWeightTransferEngine

    def received_digest(self) -> str:
        """Of everything that the last update brought."""
        return self.weight_transfer_engine.received.value


def _is_reloaded(module: torch.nn.Module) -> bool:
    """Whether this update brought tensors of the module, before the update is finalised."""
    info = get_layerwise_info(module)
    return not info.can_load() or info.load_numel > 0
