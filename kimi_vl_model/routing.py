"""The router: fp32 under autocast, and its choices recorded, replayed, counted and balanced.

Shapes: T tokens, L mixture-of-experts layers (26: layer 0 is dense), k experts a token, E experts.
A route is uint8 [T, L, k], expert numbers in the order in which they were chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3TopkRouter,
)

# A replayed slot that holds this leaves the choice to the router, as for a token no engine routed.
NO_ROUTE = 255


class Router(DeepseekV3TopkRouter):
    """transformers' router with a memory.

    chosen_Tk    what the last forward pass chose, or was told to
    own_Tk       what it would have chosen by itself
    replay_Tk    what to choose instead; the weights are still made of this router's own scores
    """

    chosen_Tk: torch.Tensor | None = None
    own_Tk: torch.Tensor | None = None
    replay_Tk: torch.Tensor | None = None

    def forward(self, hidden_states: torch.Tensor):
        """(logits [T, E], weights [T, k], experts [T, k]), all computed in fp32."""
        with torch.autocast(hidden_states.device.type, enabled=False):
            logits, weights, chosen = super().forward(hidden_states)
            self.own_Tk = chosen
            if self.replay_Tk is not None:
                told = self.replay_Tk.to(chosen.dtype)
                chosen = torch.where(told == NO_ROUTE, chosen, told)
                weights = logits.sigmoid().gather(1, chosen)
                if self.norm_topk_prob:
                    weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
                weights = weights * self.routed_scaling_factor
        self.chosen_Tk = chosen
        return logits, weights, chosen


def install_routers(layers: Sequence[nn.Module]) -> None:
    """Give the decoder layers routers that record, and that replay a `routes` keyword argument."""
    position = 0
    for layer in layers:
        gate = getattr(layer.mlp, "gate", None)
        if gate is not None:
            gate.__class__ = Router  # in place: its weights and buffers stay the ones it has
            _replay_in(layer, gate, position)
            position += 1


def _replay_in(layer: nn.Module, gate: Router, position: int) -> None:
    # A layer that is recomputed in the backward pass gets its keyword arguments again, so the
    # routes travel with them; state that lives between forward passes could be another pass's.
    def take(_layer: nn.Module, _args: Any, kwargs: dict[str, Any]) -> None:
        routes_TLk = kwargs.get("routes")
        gate.replay_Tk = None if routes_TLk is None else routes_TLk[:, position]

    layer.register_forward_pre_hook(take, with_kwargs=True)


def routers(model: nn.Module) -> Iterator[Router]:
    """In layer order."""
    return (module for module in model.modules() if isinstance(module, Router))


def recorded_routes(model: nn.Module) -> torch.Tensor:
    """uint8 [T, L, k]: the routes of the model's last forward pass, T over all rows."""
    chosen = [router.chosen_Tk for router in routers(model)]
    if any(one is None for one in chosen):
        raise ValueError("the model has not routed anything yet")
    return torch.stack(chosen, dim=1).to(torch.uint8)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def routing_disagreement(
    model: nn.Module, routes_TLk: torch.Tensor, positions_N: torch.Tensor
) -> tuple[int, int]:
    """How many (token, layer) pairs at `positions_N` of the model's last forward pass would be
    sent to another set of experts than `routes_TLk` says, and how many were compared.

    It is about the routers' own choices, replayed or not. Tokens without a route are left out.
    """
    told_NLk = routes_TLk[positions_N]
    routed_N = (told_NLk != NO_ROUTE).flatten(1).all(dim=1)
    told_NLk = told_NLk[routed_N].long().sort(dim=-1).values
    own = [router.own_Tk for router in routers(model)]
    if any(one is None for one in own):
        raise ValueError("the model has not routed anything yet")
    own_NLk = torch.stack([one[positions_N][routed_N] for one in own], dim=1)  # pyright: ignore
    differs_NL = (own_NLk.sort(dim=-1).values != told_NLk).any(dim=-1)
    return int(differs_NL.sum()), differs_NL.numel()


def expert_load(routes_TLk: torch.Tensor, experts: int) -> torch.Tensor:
    """int64 [L, E]: how many tokens each expert got."""
    layers = routes_TLk.shape[1]
    first_L = torch.arange(layers, device=routes_TLk.device) * experts
    numbered = routes_TLk.long() + first_L[:, None]
    return numbered.flatten().bincount(minlength=layers * experts).view(layers, experts)


@torch.no_grad()
def balance(model: nn.Module, load_LE: torch.Tensor, rate: float) -> None:
    """Selection bias of each expert ± `rate`, towards the even load of its layer.

    Source: DeepSeek-V3 (arXiv 2412.19437) §2.1.2; the bias selects and never weighs, so no
    gradient is disturbed as by an auxiliary loss.
    """
    load_LE = load_LE.float()
    for router, load_E in zip(routers(model), load_LE, strict=True):
        router.e_score_correction_bias.add_((load_E.mean() - load_E).sign(), alpha=rate)


def load_metrics(load_LE: torch.Tensor) -> dict[str, float]:
    """`expert_load_max`: the busiest expert's load over an even one (1 is balanced), worst layer;
    `experts_idle`: share of experts that got no token."""
    load_LE = load_LE.float()
    even_L = load_LE.mean(dim=1).clamp(min=1e-9)
    return {
        "expert_load_max": float((load_LE.amax(dim=1) / even_L).max()),
        "experts_idle": float((load_LE == 0).float().mean()),
    }
