"""AdamW, or Muon for matrices with AdamW for the rest (Moonlight, arXiv 2502.16982).

One optimizer object serves both, so that schedulers, trainers and checkpoints see one thing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...configs.common import OptimizerConfig

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


def is_hidden_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether Muon updates it: matrices, except embeddings, position tables and the LM head.

    Nor LoRA pairs of routed experts: peft lays those of a layer side by side in one matrix, which
    must not be orthogonalised as one.
    """
    if "embed" in name or "lm_head" in name:
        return False
    return parameter.ndim == (3 if ".experts." in name else 2)


class ExpertMuon(torch.optim.Optimizer):
    """torch.optim.Muon's update for the fused expert tensors of a layer, all experts in one go.

    A group's `parts` says how many matrices an expert's slice holds: gate and up projection lie
    stacked in one tensor, and are different matrices.
    """

    def __init__(self, groups: list[dict[str, Any]], config: OptimizerConfig) -> None:
        defaults = {
            "lr": config.learning_rate,
            "weight_decay": config.weight_decay,
            "momentum": config.momentum,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # pyright: ignore
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(group, parameter, parameter.grad)

    def _update(
        self, group: dict[str, Any], parameter: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = split_experts(gradient.lerp(buffer, group["momentum"]), group["parts"])
        scale = 0.2 * max(update.shape[1:]) ** 0.5
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        split_experts(parameter, group["parts"]).add_(
            orthogonalise(update).to(parameter.dtype), alpha=-group["lr"] * scale
        )


def split_experts(tensor: torch.Tensor, parts: int) -> torch.Tensor:
    """A view [experts · parts, A / parts, B] of a fused expert tensor [experts, A, B]."""
    return tensor.unflatten(1, (parts, -1)).flatten(0, 1)


class MuonAdamW(torch.optim.Optimizer):
    """W ← W − η(0.2·√max(A, B)·NS₅(M) + λW) for matrices; AdamW for everything else.

    Each group is stepped by the optimizer named in its `update`; groups and state belong to this
    object, so that one scheduler, one reset and one state dict reach all of them.
    """

    def __init__(self, named: list[tuple[str, nn.Parameter]], config: OptimizerConfig) -> None:
        hidden = [(name, p) for name, p in named if is_hidden_matrix(name, p)]
        matrices = [p for _, p in hidden if p.ndim == 2]
        experts = [
            {"parts": parts, "params": chosen}
            for parts, leaf in ((2, "gate_up_proj"), (1, "down_proj"))
            if (chosen := [p for name, p in hidden if p.ndim == 3 and leaf in name])
        ]
        rest = [p for name, p in named if not is_hidden_matrix(name, p)]
        self.updates: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            self.updates["muon"] = torch.optim.Muon(
                matrices,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        if experts:
            self.updates["experts"] = ExpertMuon(experts, config)
        if rest:
            self.updates["adamw"] = _adamw([{"params": rest}], config)
        groups = [
            {**group, "update": name}
            for name, update in self.updates.items()
            for group in update.param_groups
        ]
        super().__init__(groups, {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for name, update in self.updates.items():
            # Anew each time: loading a state dict replaces both.
            update.param_groups = [g for g in self.param_groups if g["update"] == name]
            update.state = self.state
            update.step()
        return loss


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured optimizer over the model's trainable parameters.

    With AdamW, vectors (norms and biases) are not decayed.
    """
    return build_optimizer_of(
        [(name, p) for name, p in model.named_parameters() if p.requires_grad], config
    )


def build_optimizer_of(
    named: list[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """The same over parameters with these names, or slices of them."""
    if config.name == "muon":
        return MuonAdamW(named, config)
    groups = [
        {
            "params": [p for _, p in named if (p.ndim > 1) is matrix],
            "weight_decay": config.weight_decay if matrix else 0.0,
        }
        for matrix in (True, False)
    ]
    return _adamw(groups, config)


def _adamw(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    beta1, beta2 = config.betas
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(beta1, beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        foreach=True,
    )
