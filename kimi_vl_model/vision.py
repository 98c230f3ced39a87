"""MoonViT: packed images in, 2×2-merged patch features out.

Shapes: P patches of all images together, I images, D hidden size, H heads, d = D / H.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .configuration import MoonViTConfig

ROPE_THETA = 10000.0


def rope_angles(height: int, width: int, head_dim: int, device: torch.device) -> torch.Tensor:
    """Rotation angle of every (patch, channel pair): f32 [height·width, head_dim / 2].

    Pair 2j turns with the column and pair 2j + 1 with the row, both at 10000^(-4j / head_dim).
    """
    exponents = torch.arange(0, head_dim, 4, device=device, dtype=torch.float32) / head_dim
    frequency = ROPE_THETA**-exponents
    rows = torch.arange(height, device=device, dtype=torch.float32)
    columns = torch.arange(width, device=device, dtype=torch.float32)
    by_column = (columns[:, None] * frequency).expand(height, width, -1)
    by_row = (rows[:, None] * frequency)[:, None].expand(height, width, -1)
    return torch.stack([by_column, by_row], dim=-1).reshape(height * width, head_dim // 2)


def rotate(states: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turn adjacent channel pairs of [P, H, d] by [P, d / 2] angles, in fp32."""
    pairs = states.float().unflatten(-1, (-1, 2))
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    even, odd = pairs.unbind(-1)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).type_as(states)


def attend_within(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, by_length: list[torch.Tensor]
) -> torch.Tensor:
    """Bidirectional attention inside each image of a packed [P, H, d] sequence.

    `by_length` partitions the patches: one index tensor [n, L] for all n images of L patches,
    so images of equal size share one call and no image can see another.
    """
    output = torch.empty_like(query)
    for index in by_length:
        q, k, v = (states[index].transpose(1, 2) for states in (query, key, value))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        output = output.index_copy(0, index.flatten(), attended.flatten(0, 1))
    return output


class PositionTable(nn.Module):
    """A learnable grid of position embeddings, interpolated to each image's own grid."""

    def __init__(self, height: int, width: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(height, width, hidden_size))

    def forward(self, grid: tuple[int, int]) -> torch.Tensor:
        """[h·w, D] for an image of h × w patches."""
        if grid == tuple(self.weight.shape[:2]):
            return self.weight.flatten(0, 1)
        table = self.weight.permute(2, 0, 1)[None].float()
        resized = F.interpolate(table, size=grid, mode="bicubic", align_corners=False)
        return resized[0].permute(1, 2, 0).flatten(0, 1).type_as(self.weight)


class PatchEmbed(nn.Module):
    def __init__(self, config: MoonViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)
        self.pos_emb = PositionTable(
            config.init_pos_emb_height, config.init_pos_emb_width, config.hidden_size
        )

    def forward(self, pixel_values: torch.Tensor, grids: list[tuple[int, int]]) -> torch.Tensor:
        # On [P, 3, 14, 14] the convolution is one matrix product, which is much faster as such.
        patches = F.linear(pixel_values.flatten(1), self.proj.weight.flatten(1), self.proj.bias)
        positions = {grid: self.pos_emb(grid) for grid in set(grids)}
        return patches + torch.cat([positions[grid] for grid in grids])


class MLP(nn.Module):
    def __init__(self, config: MoonViTConfig) -> None:
        super().__init__()
        self.fc0 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc1 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.fc1(F.gelu(self.fc0(hidden), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, config: MoonViTConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.norm0 = nn.LayerNorm(config.hidden_size, eps=1e-5)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=1e-5)
        self.wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.wo = nn.Linear(config.hidden_size, config.hidden_size)
        self.mlp = MLP(config)

    def forward(
        self, hidden: torch.Tensor, angles: torch.Tensor, by_length: list[torch.Tensor]
    ) -> torch.Tensor:
        qkv = self.wqkv(self.norm0(hidden)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.unbind(1)
        attended = attend_within(rotate(query, angles), rotate(key, angles), value, by_length)
        hidden = hidden + self.wo(attended.flatten(1))
        return hidden + self.mlp(self.norm1(hidden))


class Encoder(nn.Module):
    def __init__(self, config: MoonViTConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=1e-5)


def _partition_by_length(lengths: list[int], device: torch.device) -> list[torch.Tensor]:
    """[n, L] patch indices per distinct image length L."""
    starts: dict[int, list[int]] = {}
    offset = 0
    for length in lengths:
        starts.setdefault(length, []).append(offset)
        offset += length
    return [
        torch.tensor(firsts, device=device)[:, None] + torch.arange(length, device=device)
        for length, firsts in starts.items()
    ]


class MoonViT(nn.Module):
    """Source: Kimi-VL report §2.1; NaViT-style packing, SigLIP initialisation."""

    def __init__(self, config: MoonViTConfig) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.merge_height, self.merge_width = config.merge_kernel_size
        self.patch_embed = PatchEmbed(config)
        self.encoder = Encoder(config)
        self.gradient_checkpointing = False  # set by PreTrainedModel.gradient_checkpointing_enable

    def forward(self, pixel_values: torch.Tensor, image_grid_hws: torch.Tensor) -> torch.Tensor:
        """[P, 3, 14, 14] and int64 [I, 2] → [P / 4, 4, D]: each row one 2×2 block of patches."""
        grids = [(int(height), int(width)) for height, width in image_grid_hws.tolist()]
        device = pixel_values.device
        angles_of = {grid: rope_angles(*grid, self.head_dim, device) for grid in set(grids)}
        angles = torch.cat([angles_of[grid] for grid in grids])
        by_length = _partition_by_length([height * width for height, width in grids], device)
        hidden = self.patch_embed(pixel_values, grids)
        for block in self.encoder.blocks:
            if self.gradient_checkpointing and self.training:
                hidden = checkpoint(block, hidden, angles, by_length, use_reentrant=False)
            else:
                hidden = block(hidden, angles, by_length)
        return self._merge_patches(self.encoder.final_layernorm(hidden), grids)

    def _merge_patches(self, hidden: torch.Tensor, grids: list[tuple[int, int]]) -> torch.Tensor:
        merged = []
        for image, (height, width) in zip(
            hidden.split([height * width for height, width in grids]), grids, strict=True
        ):
            blocks = image.view(
                height // self.merge_height,
                self.merge_height,
                width // self.merge_width,
                self.merge_width,
                -1,
            ).transpose(1, 2)
            merged.append(blocks.flatten(2, 3).flatten(0, 1))
        return torch.cat(merged)
