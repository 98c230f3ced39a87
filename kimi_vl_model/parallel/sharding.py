"""Shard a model over a mesh: torch's `fully_shard` per layer, transformers' plan for experts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers.distributed.tensor_parallel import apply_expert_parallelism

from ..modeling import KimiVLForConditionalGeneration
from .mesh import ParallelMesh


def distribute_experts(model: KimiVLForConditionalGeneration, mesh: ParallelMesh) -> None:
    """Give each rank of an expert-parallel group its share of every layer's experts, and tokens a
    way there and back. Before adapters or sharding; nothing happens without expert parallelism."""
    if mesh.experts is None:
        return
    plan = model.config.text_config.base_model_ep_plan or {}
    # Every rank has tokens of its own, so there is no tensor-parallel mesh to share them over.
    apply_expert_parallelism(
        model.language_model.model,
        mesh.experts["experts"],
        None,  # pyright: ignore[reportArgumentType]
        plan,
    )


def shard(
    root: nn.Module,
    model: KimiVLForConditionalGeneration,
    mesh: ParallelMesh,
    compute_dtype: torch.dtype = torch.float32,
) -> None:
    """Shard every decoder layer and vision block of `model`, and with `root` what is left.

    `root` is the module that training calls: `model` or one that holds it. Parameters and
    optimizer keep the precision they have (fp32); products run in `compute_dtype`, gradients are
    added up in fp32, and outputs are not cast: log-probs stay fp32. Every backward pass ends in
    a reduce-scatter, so no rank ever holds a whole gradient.
    """
    precision = MixedPrecisionPolicy(
        param_dtype=compute_dtype,
        reduce_dtype=torch.float32,
        output_dtype=None,
        # Angles of a rotation go in beside hidden states and must stay fp32.
        cast_forward_inputs=False,
    )
    units: list[list[FSDPModule]] = []
    for module in model.modules():
        if type(module).__name__ not in model._no_split_modules:  # pyright: ignore
            continue
        # The layer first: its parameters are wanted before those of the experts inside.
        unit = []
        experts = getattr(getattr(module, "mlp", None), "experts", None)
        if experts is not None and mesh.experts is not None:
            unit = [_shard_one(experts, mesh.experts["groups"], mesh, precision)]
        units.append([_shard_one(module, mesh.dense, mesh, precision), *unit])
    _shard_one(root, mesh.dense, mesh, precision)
    root.register_forward_hook(_reshard_without_backward)
    _prefetch(units)


def _reshard_without_backward(root: nn.Module, _args: Any, _output: Any) -> None:
    """torch keeps the root's parameters whole from forward to backward. A pass that has none must
    not leave them: what is saved, loaded or sent next are the slices."""
    if not torch.is_grad_enabled():
        assert isinstance(root, FSDPModule)
        root.reshard()


def _shard_one(
    module: nn.Module, over: DeviceMesh, mesh: ParallelMesh, precision: MixedPrecisionPolicy
) -> FSDPModule:
    sharded = fully_shard(module, mesh=over, mp_policy=precision)
    # By all ranks, however many this reduction spans: an expert's gradient already holds the
    # tokens of its whole group.
    sharded.set_gradient_divide_factor(float(mesh.world_size))
    if over.size() > 1 and dist.get_backend() != "nccl":
        # Only nccl scales while it reduces. (In a group of one, torch would divide twice.)
        sharded.set_force_sum_reduction_for_comms(True)
    return sharded


def _prefetch(units: Sequence[Sequence[FSDPModule]]) -> None:
    """Gather a layer while the one before it computes, in either direction."""
    for before, after in pairwise(units):
        before[0].set_modules_to_forward_prefetch(list(after))
        after[0].set_modules_to_backward_prefetch(list(reversed(before)))
