"""A rank's slice of a sharded tensor: which rows it is, and how to have the tensor whole.

Sharded is a DTensor as `parallel/` makes it: split by its first dimension over all ranks, or a
layer's experts over the ranks of a group and then over the groups.
"""

from __future__ import annotations

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard


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
