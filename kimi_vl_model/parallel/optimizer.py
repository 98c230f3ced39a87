"""The configured optimizer on a rank's own slices, and clipping by the norm of all of them.

AdamW works element by element, and Muon expert by expert, so both step plain tensors that alias
the slices. A matrix that Muon needs whole is stepped by one rank, its owner: the slices of its
gradient go there, the slices of its update come back, and its momentum lives there alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from ...configs.common import OptimizerConfig
from ..tuning.optimizers import build_optimizer_of, is_hidden_matrix


class ShardedOptimizer:
    """Steps the trainable parameters of a model, sharded or whole."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self.learning_rate: float = config.learning_rate
        self.named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.owners = _owners({n: p for n, p in self.named.items() if self._needs_an_owner(n, p)})
        rank = dist.get_rank() if self.owners else 0
        # What this rank steps: its slices, and whole matrices that it owns.
        self.stepped = {
            name: nn.Parameter(_stand_in(parameter, name in self.owners))
            for name, parameter in self.named.items()
            if self.owners.get(name, rank) == rank
        }
        # Of few matrices a rank may own none.
        self.optimizer = (
            build_optimizer_of(list(self.stepped.items()), config) if self.stepped else None
        )

    def _needs_an_owner(self, name: str, parameter: nn.Parameter) -> bool:
        muon = self.config.name == "muon" and is_hidden_matrix(name, parameter)
        return muon and parameter.ndim == 2 and isinstance(parameter, DTensor)

    @property
    def state(self) -> dict[str, dict[str, Any]]:
        """What the optimizer remembers here, by parameter; of slices, or whole where it owns."""
        if self.optimizer is None:
            return {}
        held = self.optimizer.state
        return {name: held[p] for name, p in self.stepped.items() if p in held}

    def replace_state(self, state: dict[str, dict[str, Any]]) -> None:
        """Forget everything but this; the learning rate keeps its position."""
        if self.optimizer is not None:
            self.optimizer.state.clear()
            self.optimizer.state.update({self.stepped[name]: own for name, own in state.items()})

    def state_keys(self, name: str) -> tuple[str, ...]:
        """What it can remember of a parameter."""
        if self.config.name == "muon" and is_hidden_matrix(name, self.named[name]):
            return ("momentum_buffer",)
        return ("step", "exp_avg", "exp_avg_sq")

    def stepped_slice(self, name: str) -> torch.Tensor:
        """As large as its moments here, without values."""
        parameter = self.named[name]
        if name in self.owners:
            return torch.empty(parameter.shape, device=local_of(parameter).device)
        return local_of(parameter)

    def zero_grad(self) -> None:
        for parameter in self.named.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        for name, parameter in self.named.items():
            if name in self.owners:
                self._gather_gradient(name, parameter)
                continue  # its owner has the whole gradient now
            stepped = self.stepped[name]
            stepped.data = local_of(parameter)
            stepped.grad = None if parameter.grad is None else local_of(parameter.grad)
        if self.optimizer is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate
            self.optimizer.step()
        for name, owner in self.owners.items():
            parameter = self.named[name]
            if parameter.grad is not None:
                self._scatter_update(parameter, self.stepped.get(name), owner)
        for stepped in self.stepped.values():
            stepped.grad = None

    def _gather_gradient(self, name: str, parameter: nn.Parameter) -> None:
        if parameter.grad is None:  # on every rank alike
            return
        slices = _padded(local_of(parameter.grad), parameter)
        stepped = self.stepped.get(name)
        if stepped is None:
            dist.gather(slices, dst=self.owners[name])
            return
        gathered = [torch.empty_like(slices) for _ in range(dist.get_world_size())]
        dist.gather(slices, gathered, dst=self.owners[name])
        # Stepping a zero leaves the update itself; decay is each slice's own matter.
        stepped.data = torch.zeros(parameter.shape, dtype=slices.dtype, device=slices.device)
        stepped.grad = torch.cat(gathered)[: parameter.shape[0]]

    def _scatter_update(
        self, parameter: nn.Parameter, stepped: nn.Parameter | None, owner: int
    ) -> None:
        local = local_of(parameter)
        update = local.new_empty(_slice_rows(parameter), *parameter.shape[1:])
        slices = None
        if stepped is not None:
            whole = local.new_zeros(update.shape[0] * dist.get_world_size(), *parameter.shape[1:])
            whole[: parameter.shape[0]] = stepped.data
            slices = list(whole.chunk(dist.get_world_size()))
            stepped.data = stepped.data[:0]  # nothing whole is kept between steps
        dist.scatter(update, slices, src=owner)
        decay = 1 - self.learning_rate * self.config.weight_decay
        local.mul_(decay).add_(update[: len(local)])


def local_of(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's slice, sharing its memory."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def _owners(matrices: dict[str, nn.Parameter]) -> dict[str, int]:
    """The rank that steps each matrix: largest first, to whoever has least so far."""
    if not matrices:
        return {}
    load, owners = [0] * dist.get_world_size(), {}
    for name in sorted(matrices, key=lambda name: (-matrices[name].numel(), name)):
        owners[name] = load.index(min(load))
        load[owners[name]] += matrices[name].numel()
    return {name: owners[name] for name in matrices}


def _stand_in(parameter: nn.Parameter, owned: bool) -> torch.Tensor:
    local = local_of(parameter)
    return local.new_empty(0, *parameter.shape[1:]) if owned else local


def _slice_rows(parameter: torch.Tensor) -> int:
    return -(-parameter.shape[0] // dist.get_world_size())


def _padded(local: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    missing = _slice_rows(parameter) - len(local)
    return torch.cat([local, local.new_zeros(missing, *local.shape[1:])]) if missing else local


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scale the gradients so that their norm over all ranks is at most `max_norm`; returns what it
    was. Every slice is on exactly one rank, so the squares add up whatever the mesh."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    local = [local_of(gradient) for gradient in gradients]
    squares = nn.utils.get_total_norm(local).square()
    if any(isinstance(gradient, DTensor) for gradient in gradients):
        dist.all_reduce(squares)
    norm = float(squares.sqrt())
    scale = max_norm / (norm + 1e-6)
    if scale < 1:
        for gradient in local:
            gradient.mul_(scale)
    return norm
