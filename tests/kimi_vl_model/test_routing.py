from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.routing import (
    NO_ROUTE,
    Router,
    balance,
    expert_load,
    load_metrics,
    recorded_routes,
    routers,
    routing_disagreement,
)

Measured = Callable[[str, object], None]

EXPERTS, TOP_K, LAYERS = 8, 2, 2


def ids(model: KimiVLForConditionalGeneration, tokens: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, model.config.text_config.bos_token_id, (1, tokens), generator=generator)


def foreign_routes(tokens: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(tokens, LAYERS, EXPERTS, generator=generator)
    return scores.topk(TOP_K).indices.to(torch.uint8)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_replaying_its_own_routes_reproduces_the_logits_exactly(
    checkpoint: Path, dtype: torch.dtype, measured: Measured
) -> None:
    model = load_model(checkpoint, dtype)
    free = model(ids(model)).logits
    routes = recorded_routes(model)
    assert routes.shape == (40, LAYERS, TOP_K)
    assert routes.dtype == torch.uint8
    replayed = model(ids(model), routes=routes).logits
    measured("largest logit difference", (replayed - free).abs().max())
    assert replayed.equal(free)
    assert recorded_routes(model).equal(routes)
    # The next pass is free again.
    other = (ids(model) + 1) % 256
    assert not recorded_routes(model).equal((model(other), recorded_routes(model))[1])


@torch.no_grad()
def test_foreign_routes_are_followed_and_weighed_by_the_models_own_scores(
    model: KimiVLForConditionalGeneration,
) -> None:
    routes = foreign_routes()
    free = model(ids(model)).logits
    forced = model(ids(model), routes=routes).logits
    assert recorded_routes(model).equal(routes)
    assert (forced - free).abs().max() > 1e-2
    gate = next(routers(model))
    hidden = torch.randn(40, gate.hidden_dim, generator=torch.Generator().manual_seed(2))
    gate.replay_Tk = routes[:, 0]
    _logits, weights, chosen = gate(hidden)
    gate.replay_Tk = None
    scores = (hidden @ gate.weight.T).sigmoid().gather(1, routes[:, 0].long())
    assert chosen.equal(routes[:, 0].long())
    expected = 2.446 * scores / scores.sum(1, keepdim=True)
    torch.testing.assert_close(weights, expected)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "recomputed"])
def test_replayed_routes_give_the_router_a_gradient(checkpoint: Path, checkpointing: bool) -> None:
    routes, gradients = foreign_routes(), {}
    for recompute in {False, checkpointing}:
        model = load_model(checkpoint).train()
        if recompute:
            model.gradient_checkpointing_enable()
        loss = model(ids(model), labels=ids(model), routes=routes).loss
        # A pass in between must not change what the first one is recomputed with.
        with torch.no_grad():
            model(ids(model))
        loss.backward()
        gradients[recompute] = {name: p.grad for name, p in model.named_parameters()}
        for router in routers(model):
            assert router.weight.grad is not None
            assert router.weight.grad.abs().max() > 1e-6
    for name, gradient in gradients[False].items():
        other = gradients[checkpointing][name]
        assert (gradient is None) == (other is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, other, atol=1e-7, rtol=1e-5)


@torch.no_grad()
def test_tokens_without_a_route_are_routed_as_ever(model: KimiVLForConditionalGeneration) -> None:
    free = model(ids(model)).logits
    routes = recorded_routes(model)
    routes[25:] = NO_ROUTE
    assert model(ids(model), routes=routes).logits.equal(free)


@torch.no_grad()
def test_disagreement_counts_other_sets_of_experts_whatever_their_order(
    model: KimiVLForConditionalGeneration,
) -> None:
    model(ids(model))
    routes, everywhere = recorded_routes(model), torch.arange(40)
    assert routing_disagreement(model, routes.flip(-1), everywhere) == (0, 80)
    other = routes.clone()
    other[3, 1, 0] = next(e for e in range(EXPERTS) if e not in routes[3, 1].tolist())
    other[7] = NO_ROUTE
    assert routing_disagreement(model, other, everywhere) == (1, 78)
    assert routing_disagreement(model, other, torch.tensor([3, 7])) == (1, 2)
    # Its own choice is compared, also when another one is replayed.
    model(ids(model), routes=other)
    assert routing_disagreement(model, other, torch.tensor([3])) == (1, 2)


def test_the_router_computes_in_fp32_under_autocast(model: KimiVLForConditionalGeneration) -> None:
    gate = next(routers(model))
    gate.replay_Tk = None
    hidden = torch.randn(50, gate.hidden_dim, generator=torch.Generator().manual_seed(3))
    expected = gate(hidden)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = gate(hidden)
    for got, want in zip(actual, expected, strict=True):
        assert got.equal(want)


@torch.no_grad()
def test_the_lm_head_computes_in_fp32_under_autocast(model: KimiVLForConditionalGeneration) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.hidden_states(ids(model))
        logits = model(ids(model)).logits
    assert logits.dtype == torch.float32
    assert logits.equal(hidden.float() @ model.language_model.lm_head.weight.T)


def test_load_counts_every_choice_of_every_layer() -> None:
    routes = foreign_routes(300)
    load = expert_load(routes, EXPERTS)
    assert load.shape == (LAYERS, EXPERTS)
    for layer in range(LAYERS):
        for expert in range(EXPERTS):
            assert load[layer, expert] == (routes[:, layer] == expert).sum()
    metrics = load_metrics(torch.tensor([[4, 4, 4, 4], [0, 0, 2, 6]]))
    assert metrics == {"expert_load_max": 3.0, "experts_idle": 0.25}


@torch.no_grad()
def test_bias_updates_even_out_the_load(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    tokens = ids(model, 400)
    for router in routers(model):
        router.e_score_correction_bias.add_(torch.linspace(0, 1, EXPERTS))
    worst = []
    for _ in range(60):
        model(tokens)
        load = expert_load(recorded_routes(model), EXPERTS)
        worst.append(load_metrics(load)["expert_load_max"])
        before = [router.e_score_correction_bias.clone() for router in routers(model)]
        balance(model, load, rate=0.02)
        for router, old, load_E in zip(routers(model), before, load, strict=True):
            moved = router.e_score_correction_bias - old
            expected = 0.02 * (load_E.float().mean() - load_E).sign()
            torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)
    assert worst[0] > 3
    assert worst[-1] < 1.5


def test_no_gradient_step_ever_moves_the_selection_bias(
    model: KimiVLForConditionalGeneration,
) -> None:
    parameters = {name for name, _ in model.named_parameters()}
    assert not any("e_score_correction_bias" in name for name in parameters)
    assert sum(isinstance(module, Router) for module in model.modules()) == LAYERS
