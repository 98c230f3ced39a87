"""A sharded model from a checkpoint: each rank reads the bytes of its own slices, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from ..checkpoint import (
    empty_model,
    load_config,
    restore_buffers,
    tensor_problems,
)
from ..files.stored_tensors import StoredTensor, raise_first, stored_tensors
from ..modeling import KimiVLForConditionalGeneration
from ..slices import local_rows
from ..tuning.adapters import plain_state, reset_adapters
from .mesh import ParallelPlan, build_mesh
from .sharding import distribute_experts, shard

_FUSED = re.compile(r"(.*\.experts)\.(gate_up_proj|down_proj)$")


def load_sharded(
    folder: str | Path,
    plan: ParallelPlan,
    device: torch.device,
    *,
    prepare: Callable[[KimiVLForConditionalGeneration], nn.Module],
    compute_dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """What `prepare` returned, sharded and filled, in fp32 on `device`.

    `prepare` gets the model without memory and says what trains: it freezes, adds adapters, and
    returns the module that training will call. Adapters are drawn from torch's global generator,
    which must stand alike on all ranks. Raises CheckpointError for files that do not fit, KVLError
    for a plan that does not.
    """
    config = load_config(folder)
    plan.check(config.text_config.n_routed_experts)
    model = empty_model(config)
    raise_first(tensor_problems(folder, model))
    mesh = build_mesh(plan, device.type)
    distribute_experts(model, mesh)
    root = prepare(model)
    shard(root, model, mesh, compute_dtype)
    # Through the root, so that every sharded module learns where its parameters are now.
    root._apply(lambda t: torch.empty_like(t, device=device) if t.is_meta else t.to(device))
    restore_buffers(model)
    stored, _ = stored_tensors(folder)
    with torch.no_grad():
        for name, tensor in plain_state(model):
            _fill(name, tensor, stored)
        reset_adapters(model)
    return root


def _fill(name: str, tensor: torch.Tensor, stored: dict[str, StoredTensor]) -> None:
    rows = local_rows(tensor)
    local = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # pyright: ignore
    fused = _FUSED.match(name)
    if fused is None:
        local.copy_(stored[name].read_rows(rows))
        return
    for position, expert in enumerate(rows):
        prefix = f"{fused[1]}.{expert}"
        if fused[2] == "down_proj":
            local[position].copy_(stored[f"{prefix}.down_proj.weight"].read())
        else:
            gate, up = local[position].chunk(2)
            gate.copy_(stored[f"{prefix}.gate_proj.weight"].read())
            up.copy_(stored[f"{prefix}.up_proj.weight"].read())
