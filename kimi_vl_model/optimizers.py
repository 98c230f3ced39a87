"""AdamW, or Muon for matrices with AdamW for the rest (Moonlight, arXiv 2502.16982).

One optimizer object serves both, so that schedulers, accelerate and checkpoints see one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.adamw import adamw

from ..configs.common import OptimizerConfig

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Five Newton–Schulz steps in bf16 on each matrix of a stack [n, A, B], together."""
    a, b, c = NEWTON_SCHULZ
    states = matrices.bfloat16()
    if transposed := states.shape[-2] > states.shape[-1]:
        states = states.mT
    states = states / states.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = states @ states.mT
        states = torch.baddbmm(
            states, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), states, beta=a
        )
    return states.mT if transposed else states


def as_matrices(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A view [n, A, B] of the separate matrices inside a parameter (or its gradient).

    Fused experts hold each expert's gate and up projection stacked along one axis; they are
    different matrices and are orthogonalised apart.
    """
    if name.endswith("experts.gate_up_proj"):
        return tensor.unflatten(1, (2, -1)).flatten(0, 1)
    return tensor if tensor.ndim == 3 else tensor[None]


def is_hidden_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether Muon updates it: matrices, except embeddings, position tables and the LM head."""
    if "embed" in name or "lm_head" in name:
        return False
    return parameter.ndim == 2 or ".experts." in name


class MuonAdamW(torch.optim.Optimizer):
    """W ← W − η(0.2·√max(A, B)·NS₅(M) + λW) for matrices; AdamW for everything else."""

    def __init__(self, named: list[tuple[str, nn.Parameter]], config: OptimizerConfig) -> None:
        def chosen(muon: bool) -> list[tuple[str, nn.Parameter]]:
            return [item for item in named if is_hidden_matrix(*item) is muon]

        groups: list[dict[str, Any]] = [
            {"params": [p for _, p in chosen(muon)], "names": [n for n, _ in chosen(muon)]}
            | {"muon": muon}
            for muon in (True, False)
        ]
        defaults = {
            "lr": config.learning_rate,
            "weight_decay": config.weight_decay,
            "momentum": config.momentum,
            "betas": tuple(config.betas),
            "eps": config.eps,
        }
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            held = [
                (name, parameter)
                for name, parameter in zip(group["names"], group["params"], strict=True)
                if parameter.grad is not None
            ]
            (self._muon if group["muon"] else self._adamw)(group, held)
        return loss

    def _muon(self, group: dict[str, Any], held: list[tuple[str, nn.Parameter]]) -> None:
        by_shape: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for name, parameter in held:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
            update = as_matrices(name, gradient.lerp(buffer, group["momentum"]))
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            matrices = as_matrices(name, parameter)
            by_shape.setdefault(tuple(matrices.shape[1:]), []).append((matrices, update))
        for shape, members in by_shape.items():
            scale = -group["lr"] * 0.2 * max(shape) ** 0.5
            stacked = orthogonalise(torch.cat([update for _, update in members]))
            sizes = [matrices.shape[0] for matrices, _ in members]
            for (matrices, _), update in zip(members, stacked.split(sizes), strict=True):
                matrices.add_(update.to(matrices.dtype), alpha=scale)

    def _adamw(self, group: dict[str, Any], held: list[tuple[str, nn.Parameter]]) -> None:
        for _, parameter in held:
            if not self.state[parameter]:
                self.state[parameter].update(
                    step=torch.zeros(()),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
        states = [self.state[parameter] for _, parameter in held]
        beta1, beta2 = group["betas"]
        adamw(
            [parameter for _, parameter in held],
            [parameter.grad for _, parameter in held],  # pyright: ignore
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            foreach=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured optimizer over the model's trainable parameters.

    With AdamW, vectors (norms and biases) are not decayed.
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if config.name == "muon":
        return MuonAdamW(named, config)
    groups = [
        {
            "params": [p for _, p in named if (p.ndim > 1) is matrix],
            "weight_decay": config.weight_decay if matrix else 0.0,
        }
        for matrix in (True, False)
    ]
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(beta1, beta2), eps=config.eps, foreach=True
    )
