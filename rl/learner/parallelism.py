"""How a learner rank joins the others, and what of the policy it holds: all of it, or a slice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...configs.rl import RLConfig
from ...kimi_vl_model.checkpoint import load_model
from ...kimi_vl_model.modeling import KimiVLForConditionalGeneration
from ...kimi_vl_model.parallel.loading import load_sharded
from ...kimi_vl_model.parallel.mesh import ParallelPlan


@dataclass(frozen=True, slots=True)
class RankAddress:
    """Where a rank stands in the learner's process group."""

    rank: int
    world_size: int
    host: str
    port: int


def join_process_group(address: RankAddress) -> torch.device:
    """The device of this rank. A single one needs no process group."""
    # Ray shows every actor just its own device, so it is always device 0 there.
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if address.world_size > 1:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=f"tcp://{address.host}:{address.port}",
            rank=address.rank,
            world_size=address.world_size,
        )
    return device


def place_policy(
    config: RLConfig,
    address: RankAddress,
    device: torch.device,
    prepare: Callable[[KimiVLForConditionalGeneration], nn.Module],
) -> nn.Module:
    """What training calls: the module that `prepare` makes of the loaded model, on `device`.

    With `learner.sharding: fsdp2` each of several ranks reads and holds its own slices; else every
    rank holds everything, and ranks average their gradients. Whole losses are the mean over ranks
    in either case.
    """
    learner = config.learner
    half = learner.precision.mixed_precision == "bf16"
    if learner.sharding == "fsdp2" and address.world_size > 1:
        plan = ParallelPlan(address.world_size, learner.expert_parallel)
        compute_dtype = torch.bfloat16 if half else torch.float32
        return load_sharded(
            config.checkpoint, plan, device, prepare=prepare, compute_dtype=compute_dtype
        )
    root = prepare(load_model(config.checkpoint)).to(device)
    if half:
        root.forward = torch.autocast(device.type, torch.bfloat16)(root.forward)
    return DistributedDataParallel(root) if address.world_size > 1 else root


def without_sync(policy: nn.Module) -> AbstractContextManager[None]:
    """Keep gradients of the passes inside to this rank, where it holds whole ones anyway; slices
    are added up after every pass."""
    return policy.no_sync() if isinstance(policy, DistributedDataParallel) else nullcontext()
