"""How a learner rank joins the others: process group, device, data parallelism or FSDP2."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin

from ...configs.rl import RLConfig


@dataclass(frozen=True, slots=True)
class RankAddress:
    """Where a rank stands in the learner's process group."""

    rank: int
    world_size: int
    host: str
    port: int


def join_process_group(address: RankAddress) -> None:
    """Environment that accelerate reads. A single rank needs no process group."""
    if address.world_size == 1:
        return
    os.environ.update(
        RANK=str(address.rank),
        WORLD_SIZE=str(address.world_size),
        # Ray shows every actor just its own device, so it is always device 0 there.
        LOCAL_RANK=str(0 if torch.cuda.is_available() else address.rank),
        MASTER_ADDR=address.host,
        MASTER_PORT=str(address.port),
    )


def build_accelerator(config: RLConfig) -> Accelerator:
    learner = config.learner
    plugin = None
    if learner.sharding == "fsdp2" and learner.world_size > 1:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["DeepseekV3DecoderLayer", "Block"],
            state_dict_type="SHARDED_STATE_DICT",
        )
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=learner.precision.mixed_precision,
        fsdp_plugin=plugin,
    )
