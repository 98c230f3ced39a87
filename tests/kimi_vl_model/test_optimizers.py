from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from kvl.configs.common import LoRAConfig, OptimizerConfig
from kvl.kimi_vl_model.checkpoint import load_model
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.tuning.adapters import add_adapters
from kvl.kimi_vl_model.tuning.optimizers import (
    ExpertMuon,
    MuonAdamW,
    build_optimizer,
    is_hidden_matrix,
    orthogonalise,
    split_experts,
)
from torch import nn

CONFIG = OptimizerConfig(
    name="muon", learning_rate=1e-2, weight_decay=0.1, betas=(0.9, 0.95), eps=1e-15, momentum=0.9
)
STEPS = 3


def set_gradients(named: list[tuple[str, nn.Parameter]], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for _, parameter in named:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def separate_matrices(name: str, tensor: torch.Tensor) -> list[torch.Tensor]:
    """The published matrices inside a parameter, by hand."""
    if name.endswith(".gate_up_proj"):
        half = tensor.shape[1] // 2
        return [part for expert in tensor for part in (expert[:half], expert[half:])]
    if name.endswith("experts.down_proj"):
        return list(tensor)
    return [tensor]


@pytest.fixture(scope="module")
def trained(checkpoint: Path) -> tuple[dict[str, torch.Tensor], KimiVLForConditionalGeneration]:
    """(weights before, the model after a few MuonAdamW steps on random gradients)."""
    model = load_model(checkpoint)
    before = copy.deepcopy(dict(model.named_parameters()))
    named = list(model.named_parameters())
    optimizer = build_optimizer(model, CONFIG)
    assert isinstance(optimizer, MuonAdamW)
    for step in range(STEPS):
        set_gradients(named, step)
        optimizer.step()
    return {name: tensor.detach() for name, tensor in before.items()}, model


def test_each_matrix_moves_as_under_torch_muon(
    trained: tuple[dict[str, torch.Tensor], KimiVLForConditionalGeneration],
) -> None:
    before, model = trained
    named = [(n, p) for n, p in model.named_parameters() if is_hidden_matrix(n, p)]
    assert sum(n.endswith("gate_up_proj") for n, _ in named) == 2
    parts = {
        name: [nn.Parameter(part.clone()) for part in separate_matrices(name, before[name])]
        for name, _ in named
    }
    assert len(parts["language_model.model.layers.1.mlp.experts.gate_up_proj"]) == 16
    oracle = torch.optim.Muon(
        [part for several in parts.values() for part in several],
        lr=CONFIG.learning_rate,
        weight_decay=CONFIG.weight_decay,
        momentum=CONFIG.momentum,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )
    for step in range(STEPS):
        set_gradients(list(model.named_parameters()), step)
        for name, parameter in named:
            assert parameter.grad is not None
            pieces = separate_matrices(name, parameter.grad)
            for part, gradient in zip(parts[name], pieces, strict=True):
                part.grad = gradient.clone()
        oracle.step()
    for name, parameter in named:
        start = separate_matrices(name, before[name])
        got = separate_matrices(name, parameter.detach())
        for first, actual, expected in zip(start, got, parts[name], strict=True):
            moved = (expected.detach() - first).norm()
            # bf16 products round differently when matrices are batched.
            assert (actual - expected.detach()).norm() < 0.01 * moved, name


def test_everything_else_moves_as_under_torch_adamw(
    trained: tuple[dict[str, torch.Tensor], KimiVLForConditionalGeneration],
) -> None:
    before, model = trained
    named = [(n, p) for n, p in model.named_parameters() if not is_hidden_matrix(n, p)]
    copies = {name: nn.Parameter(before[name].clone()) for name, _ in named}
    oracle = torch.optim.AdamW(
        copies.values(),
        lr=CONFIG.learning_rate,
        betas=CONFIG.betas,
        eps=CONFIG.eps,
        weight_decay=CONFIG.weight_decay,
    )
    for step in range(STEPS):
        set_gradients(list(model.named_parameters()), step)
        for name, parameter in named:
            copies[name].grad = parameter.grad
        oracle.step()
    for name, parameter in named:
        assert not parameter.detach().equal(before[name]), name
        torch.testing.assert_close(parameter.detach(), copies[name].detach(), atol=1e-7, rtol=1e-6)


def test_muon_gets_the_hidden_matrices_and_nothing_else(
    model: KimiVLForConditionalGeneration,
) -> None:
    muon = {name for name, p in model.named_parameters() if is_hidden_matrix(name, p)}
    for name, parameter in model.named_parameters():
        outside = "embed_tokens" in name or "lm_head" in name or "patch_embed" in name
        assert (name in muon) == (parameter.ndim > 1 and not outside), name
    assert "language_model.model.layers.1.mlp.experts.down_proj" in muon
    assert "language_model.model.layers.1.mlp.gate.weight" in muon
    assert "multi_modal_projector.linear_1.weight" in muon


def test_muon_gets_adapters_except_those_that_share_a_matrix(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    add_adapters(model, LoRAConfig(rank=4, routed_experts=True))
    optimizer = build_optimizer(model, CONFIG)
    by_update = {g["update"]: {id(p) for p in g["params"]} for g in optimizer.param_groups}
    assert by_update.keys() == {"muon", "adamw"}
    for name, parameter in model.named_parameters():
        expected = "adamw" if ".mlp.experts." in name else "muon"
        assert (id(parameter) in by_update[expected]) == parameter.requires_grad, name


def test_gate_and_up_are_orthogonalised_apart() -> None:
    tensor = torch.arange(2 * 6 * 3.0).view(2, 6, 3)
    matrices = split_experts(tensor, 2)
    assert matrices.shape == (4, 3, 3)
    assert matrices[1].equal(tensor[0, 3:])
    assert matrices.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert split_experts(tensor, 1).equal(tensor)


def test_plain_matrices_are_stepped_by_torch_itself(model: KimiVLForConditionalGeneration) -> None:
    optimizer = build_optimizer(model, CONFIG)
    assert isinstance(optimizer, MuonAdamW)
    assert {name: type(update) for name, update in optimizer.updates.items()} == {
        "muon": torch.optim.Muon,
        "experts": ExpertMuon,
        "adamw": torch.optim.AdamW,
    }
    by_update = {group["update"]: 0 for group in optimizer.param_groups}
    for group in optimizer.param_groups:
        by_update[group["update"]] += len(group["params"])
    assert by_update["experts"] == 4
    assert sum(by_update.values()) == len(list(model.parameters()))


def test_clearing_the_state_restarts_every_part(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    optimizer = build_optimizer(model, CONFIG)
    named = list(model.named_parameters())
    moved = []
    for _ in range(2):
        before = {name: p.detach().clone() for name, p in named}
        set_gradients(named, step=0)
        optimizer.step()
        assert len(optimizer.state) == len(named)
        optimizer.state.clear()
        moved.append({n: p.detach() - before[n] * (1 - 1e-3) for n, p in named})
    for name in moved[0]:
        torch.testing.assert_close(moved[0][name], moved[1][name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("shape", [(3, 40, 16), (2, 16, 40)])
def test_orthogonalised_matrices_have_singular_values_near_one(
    shape: tuple[int, int, int],
) -> None:
    torch.manual_seed(0)
    # The scale of a matrix, and of its neighbours in the stack, does not matter.
    stack = torch.randn(shape) * torch.tensor([1e-6, 1.0, 1e4])[: shape[0], None, None]
    values = torch.linalg.svdvals(orthogonalise(stack).float())
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_parameters_without_gradient_stay_where_they_are(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    frozen = dict(model.vision_tower.named_parameters())
    before = {name: p.detach().clone() for name, p in frozen.items()}
    optimizer = build_optimizer(model, CONFIG)
    model(torch.arange(9)[None], labels=torch.arange(9)[None]).loss.backward()
    optimizer.step()
    assert all(p.detach().equal(before[name]) for name, p in frozen.items())


def test_frozen_parameters_are_not_given_to_the_optimizer(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    model.vision_tower.requires_grad_(False)
    for name in "adamw", "muon":
        config = CONFIG.model_copy(update={"name": name})
        groups = build_optimizer(model, config).param_groups
        held = sum(len(group["params"]) for group in groups)
        assert held == sum(p.requires_grad for p in model.parameters())


def test_state_survives_saving_and_loading(checkpoint: Path) -> None:
    def train(model: KimiVLForConditionalGeneration, optimizer: torch.optim.Optimizer) -> None:
        set_gradients(list(model.named_parameters()), step=7)
        optimizer.step()

    straight = load_model(checkpoint)
    optimizer = build_optimizer(straight, CONFIG)
    set_gradients(list(straight.named_parameters()), step=0)
    optimizer.step()
    resumed = load_model(checkpoint)
    resumed.load_state_dict(straight.state_dict())
    again = build_optimizer(resumed, CONFIG)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(straight, optimizer)
    train(resumed, again)
    for name, parameter in straight.named_parameters():
        assert resumed.get_parameter(name).detach().equal(parameter.detach()), name


def test_adamw_decays_matrices_and_not_vectors(checkpoint: Path) -> None:
    model = load_model(checkpoint)
    optimizer = build_optimizer(model, CONFIG.model_copy(update={"name": "adamw"}))
    assert isinstance(optimizer, torch.optim.AdamW)
    for group in optimizer.param_groups:
        dimensions = {parameter.ndim > 1 for parameter in group["params"]}
        assert dimensions == {group["weight_decay"] > 0}
        assert group["betas"] == CONFIG.betas
        assert group["eps"] == CONFIG.eps
