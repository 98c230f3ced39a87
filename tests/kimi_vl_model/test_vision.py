from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from kvl.kimi_vl_model.configuration import MoonViTConfig
from kvl.kimi_vl_model.vision import MoonViT, PositionTable, rope_angles, rotate
from transformers.models.kimi_k25.configuration_kimi_k25 import Kimi_K25VisionConfig
from transformers.models.kimi_k25.modeling_kimi_k25 import Kimi_K25VisionModel

Measured = Callable[[str, object], None]

HEAD_DIM, HEADS, TABLE = 72, 2, 16


@pytest.fixture(scope="module")
def tower() -> MoonViT:
    """Two blocks of the real head width, with weights of unit gain."""
    torch.manual_seed(0)
    config = MoonViTConfig(
        num_hidden_layers=2,
        hidden_size=HEADS * HEAD_DIM,
        num_attention_heads=HEADS,
        intermediate_size=200,
        init_pos_emb_height=TABLE,
        init_pos_emb_width=TABLE,
    )
    tower = MoonViT(config).eval()
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(0.1 * torch.randn_like(parameter) + ("norm" in name))
            elif "pos_emb" in name:
                parameter.normal_()
            else:
                parameter.normal_(std=parameter.shape[1:].numel() ** -0.5)
    return tower


def pixels(grids: list[tuple[int, int]], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = sum(h * w for h, w in grids)
    return torch.randn(count, 3, 14, 14, generator=generator), torch.tensor(grids)


def test_rope_pairs_turn_alternately_with_column_and_row() -> None:
    angles = rope_angles(4, 5, HEAD_DIM, torch.device("cpu"))
    assert angles.shape == (20, 36)
    at = angles[2 * 5 + 3]  # row 2, column 3
    assert at[0].item() == pytest.approx(3.0)
    assert at[1].item() == pytest.approx(2.0)
    assert at[2].item() == pytest.approx(1.7985, abs=5e-5)
    expected = [
        position * 10000 ** (-4 * j / HEAD_DIM) for j in range(18) for position in (3.0, 2.0)
    ]
    torch.testing.assert_close(at, torch.tensor(expected))


def test_rope_turns_adjacent_channels_as_complex_numbers() -> None:
    torch.manual_seed(0)
    states, angles = torch.randn(6, 2, 8), torch.randn(6, 4)
    turned = torch.view_as_real(
        torch.view_as_complex(states.unflatten(-1, (-1, 2)))
        * torch.polar(torch.ones_like(angles), angles)[:, None]
    ).flatten(-2)
    torch.testing.assert_close(rotate(states, angles), turned)


def test_rope_is_computed_in_fp32_for_low_precision_states() -> None:
    torch.manual_seed(0)
    states, angles = torch.randn(6, 2, 8).bfloat16(), torch.randn(6, 4) * 50
    expected = rotate(states.float(), angles).bfloat16()
    assert rotate(states, angles).equal(expected)


def test_position_table_is_taken_as_it_is_on_its_own_grid() -> None:
    table = PositionTable(64, 64, 3)
    torch.nn.init.normal_(table.weight)
    assert table((64, 64)).equal(table.weight.flatten(0, 1))


@pytest.mark.parametrize("grid", [(2, 2), (20, 6), (64, 32), (80, 90)])
def test_position_table_is_bicubic_elsewhere(grid: tuple[int, int]) -> None:
    table = PositionTable(64, 64, 3)
    torch.nn.init.normal_(table.weight)
    with torch.no_grad():
        actual = table(grid).view(*grid, 3)
    # Bicubic with a = -0.75, half-pixel centres, clamped borders, no antialias; in plain Python.
    for row, column in [(0, 0), (grid[0] - 1, grid[1] // 2), (grid[0] // 2, grid[1] - 1)]:
        expected = torch.zeros(3)
        for i, wi in _cubic(row, grid[0]):
            for j, wj in _cubic(column, grid[1]):
                expected += wi * wj * table.weight[i, j].detach()
        torch.testing.assert_close(actual[row, column], expected, atol=1e-4, rtol=1e-4)


def _cubic(position: int, size: int) -> list[tuple[int, float]]:
    source = (position + 0.5) * 64 / size - 0.5
    base, a = math.floor(source), -0.75
    taps = []
    for offset in range(-1, 3):
        x = abs(source - (base + offset))
        if x <= 1:
            weight = (a + 2) * x**3 - (a + 3) * x**2 + 1
        else:
            weight = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        taps.append((min(max(base + offset, 0), 63), weight))
    return taps


def test_merge_gathers_two_by_two_blocks_row_by_row(tower: MoonViT) -> None:
    height, width = 4, 6
    index = torch.arange(height * width, dtype=torch.float32)[:, None]
    merged = tower._merge_patches(index, [(height, width)])[..., 0]
    expected = [
        [width * row + column for row in (2 * i, 2 * i + 1) for column in (2 * j, 2 * j + 1)]
        for i in range(height // 2)
        for j in range(width // 2)
    ]
    assert merged.tolist() == expected


@torch.no_grad()
def test_images_do_not_see_each_other(tower: MoonViT) -> None:
    grids = [(4, 6), (2, 2), (6, 4), (4, 6), (10, 2)]  # equal lengths, shapes and neither
    values, hws = pixels(grids)
    together = tower(values, hws)
    sizes = [h * w for h, w in grids]
    apart = [tower(v, hws[n : n + 1]) for n, v in enumerate(values.split(sizes))]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-5)
    changed = values.clone()
    changed[: sizes[0]] += 1.0
    moved = (tower(changed, hws) - together).abs().amax((1, 2))
    assert moved[: sizes[0] // 4].min() > 1e-2
    assert moved[sizes[0] // 4 :].max() == 0.0


@torch.no_grad()
def test_attention_is_bidirectional_inside_an_image(tower: MoonViT) -> None:
    values, hws = pixels([(4, 4)])
    before = tower(values, hws)
    values[-1] += 1.0
    assert (tower(values, hws) - before).abs().amax((1, 2)).min() > 1e-3


def test_checkpointed_blocks_give_the_same_gradient(tower: MoonViT) -> None:
    values, hws = pixels([(4, 6), (2, 4)])
    weight = tower.encoder.blocks[0].get_parameter("wqkv.weight")
    gradients = []
    for checkpointing in (False, True):
        tower.train()
        tower.gradient_checkpointing = checkpointing
        loss = tower(values, hws).square().sum()
        gradients += torch.autograd.grad(loss, weight)
    tower.gradient_checkpointing = False
    tower.eval()
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.fixture(scope="module")
def oracle(tower: MoonViT) -> Kimi_K25VisionModel:
    """transformers' tower, whose rotary embedding pairs channel i with i + d/2."""
    config = Kimi_K25VisionConfig(
        hidden_size=HEADS * HEAD_DIM,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=200,
        pos_emb_height=TABLE,
        pos_emb_width=TABLE,
    )
    config._attn_implementation = "eager"
    oracle = Kimi_K25VisionModel(config).eval()
    state = {}
    by_halves = torch.arange(HEAD_DIM).view(-1, 2).T.flatten()
    permutation = torch.cat([head * HEAD_DIM + by_halves for head in range(HEADS)])
    for name, tensor in tower.state_dict().items():
        name = name.replace("encoder.blocks", "layers").replace("encoder.", "")
        name = name.replace("norm1", "norm2").replace("norm0", "norm1")
        name = name.replace("fc1", "fc2").replace("fc0", "fc1").replace(".wo.", ".attn.proj.")
        name = name.replace("pos_emb.weight", "pos_emb.position_embeddings")
        if ".wqkv." in name:
            query, key, value = tensor.chunk(3)
            for letter, part in ("q", query[permutation]), ("k", key[permutation]), ("v", value):
                state[name.replace("wqkv", f"attn.{letter}_proj")] = part
        else:
            state[name] = tensor
    missing, unexpected = oracle.load_state_dict(state, strict=False)
    assert not missing
    assert not unexpected
    return oracle


@torch.no_grad()
@pytest.mark.parametrize(
    "grids",
    [[(2, 2)], [(16, 16)], [(4, 10), (12, 6)], [(20, 2), (2, 18), (6, 6), (6, 6)]],
    ids=["2x2", "16x16", "two", "four"],
)
def test_tower_equals_transformers_up_to_a_channel_permutation(
    tower: MoonViT, oracle: Kimi_K25VisionModel, grids: list[tuple[int, int]], measured: Measured
) -> None:
    values, hws = pixels(grids)
    expected = oracle(values, F.pad(hws, (1, 0), value=1)).pooler_output
    assert expected.abs().max() > 1
    actual = tower(values, hws)
    measured("largest feature difference", (actual - expected).abs().max())
    torch.testing.assert_close(actual, expected, atol=5e-5, rtol=0)


@torch.no_grad()
def test_bf16_tower_is_as_close_to_fp32_as_transformers_is(
    tower: MoonViT, oracle: Kimi_K25VisionModel, measured: Measured
) -> None:
    values, hws = pixels([(16, 16), (20, 2), (2, 18), (6, 6)])
    exact = tower(values, hws)
    low, low_oracle = copy.deepcopy(tower).bfloat16(), copy.deepcopy(oracle).bfloat16()
    for name, buffer in oracle.named_buffers():  # rotary tables stay fp32, as from_pretrained does
        module, _, leaf = name.rpartition(".")
        setattr(low_oracle.get_submodule(module), leaf, buffer)
    actual = low(values.bfloat16(), hws)
    expected = low_oracle(values.bfloat16(), F.pad(hws, (1, 0), value=1)).pooler_output
    assert actual.dtype == expected.dtype == torch.bfloat16
    measured("largest feature difference", (actual - expected).abs().max())
    torch.testing.assert_close(actual, expected, atol=0.05, rtol=0)
    own_error = (actual - exact).abs().mean()
    assert own_error <= 1.1 * (expected - exact).abs().mean()
