"""How ranks divide the model: the meshes that parameters are split over.

A dense parameter is split by its first dimension over all ranks. With expert parallelism a layer's
fused experts are split over the ranks of a group first and over the groups then, so that every rank
holds whole experts in either case. A context-parallel dimension would come inside the data-parallel
one: ranks that share a sequence shard parameters like any others.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

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
