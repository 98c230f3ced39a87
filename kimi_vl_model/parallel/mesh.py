"""How ranks divide the model: who holds which rows of a parameter, and how to have it whole.

A dense parameter is split by its first dimension over all ranks. With expert parallelism a layer's
fused experts are split over the ranks of a group first and over the groups then, so that every rank
holds whole experts in either case. A context-parallel dimension would come inside the data-parallel
one: ranks that share a sequence shard parameters like any others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from ...configs.errors import KVLError


@dataclass(frozen=True, slots=True)
class ParallelPlan:
    """`world_size` ranks, each with sequences of its own; groups of `expert_parallel` neighbours
    divide the experts, sending tokens to one another."""

    world_size: int
    expert_parallel: int = 1

    def check(self, experts: int) -> None:
        """Raises KVLError unless experts and ranks divide evenly."""
        if experts % self.expert_parallel:
            raise KVLError(
                f"expert_parallel {self.expert_parallel} does not divide the {experts} experts "
                "of a layer: choose a divisor"
            )
        if self.world_size % self.expert_parallel:
            raise KVLError(
                f"expert_parallel {self.expert_parallel} does not divide the {self.world_size} "
                "ranks: choose a divisor"
            )


@dataclass(frozen=True, slots=True)
class ParallelMesh:
    """dense: one dimension, all ranks. experts: [groups, ranks of a group], None without expert
    parallelism."""

    dense: DeviceMesh
    experts: DeviceMesh | None

    @property
    def world_size(self) -> int:
        return self.dense.size()


def build_mesh(plan: ParallelPlan, device_type: str) -> ParallelMesh:
    """Needs an initialised process group of `plan.world_size` ranks."""
    dense = init_device_mesh(device_type, (plan.world_size,), mesh_dim_names=("dense",))
    if plan.expert_parallel == 1:
        return ParallelMesh(dense, None)
    shape = (plan.world_size // plan.expert_parallel, plan.expert_parallel)
    return ParallelMesh(
        dense, init_device_mesh(device_type, shape, mesh_dim_names=("groups", "experts"))
    )


def local_rows(tensor: torch.Tensor) -> range:
    """Which entries of the first dimension this rank holds; all of a tensor that is not sharded."""
    rows = range(tensor.shape[0] if tensor.ndim else 1)
    if isinstance(tensor, DTensor):
        # From the inside out: experts are split within a group before groups split them further.
        for dimension in reversed(range(tensor.device_mesh.ndim)):
            size = -(-len(rows) // tensor.device_mesh.size(dimension))  # as torch.chunk divides
            rank = tensor.device_mesh.get_local_rank(dimension)
            rows = rows[rank * size : (rank + 1) * size]
        assert len(rows) == tensor.to_local().shape[0]
    return rows


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor itself, or all of a sharded one, which every rank must ask for alike."""
    if not isinstance(tensor, DTensor):
        return tensor
    mesh, shape, local = tensor.device_mesh, tensor.shape, tensor.to_local()
    if mesh.ndim == 1:
        return tensor.full_tensor()
    # Dimension by dimension: torch's own gather of two splits of one axis takes another path.
    own = shape[0] // mesh.size(1)
    for dimension, rows in ((0, own), (1, shape[0])):
        part = torch.Size((rows, *shape[1:]))
        local = DTensor.from_local(
            local, _along(mesh, dimension), [Shard(0)], run_check=False, shape=part,
            stride=local.new_empty(part, device="meta").stride(),
        ).full_tensor()  # fmt: skip
    return local


def _along(mesh: DeviceMesh, dimension: int) -> DeviceMesh:
    assert mesh.mesh_dim_names is not None
    return mesh[mesh.mesh_dim_names[dimension]]
