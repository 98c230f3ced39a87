"""Image → patches with PIL and numpy only, pixel for pixel as published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from ..configs.errors import CheckpointError, ProblemError
from .files.json_files import read_object
from .files.settings import PAD_INPUT, check_preprocessor

MAX_PATCHES_PER_SIDE = 512


def target_size(width: int, height: int, patch_size: int, in_token_limit: int) -> tuple[int, int]:
    """(width, height) after the token limit: scaled down by √(limit / patches), truncated."""
    patches = (width // patch_size) * (height // patch_size)
    if patches <= in_token_limit:
        return width, height
    scale = math.sqrt(in_token_limit / patches)
    return int(width * scale), int(height * scale)


class KimiVLImageProcessor(BaseImageProcessor):
    """Native-resolution patches: limit, zero-pad to whole 2×2 patch blocks, normalise, cut."""

    model_input_names = ["pixel_values", "image_grid_hws"]  # noqa: RUF012

    def __init__(
        self,
        patch_size: int = 14,
        in_token_limit: int = 4096,
        merge_kernel_size: Sequence[int] = (2, 2),
        image_mean: Sequence[float] = (0.5, 0.5, 0.5),
        image_std: Sequence[float] = (0.5, 0.5, 0.5),
        pad_input: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not pad_input:
            raise CheckpointError(PAD_INPUT)
        self.patch_size = patch_size
        self.in_token_limit = in_token_limit
        self.merge_kernel_size = list(merge_kernel_size)
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.pad_input = pad_input

    @classmethod
    def from_folder(cls, folder: str | Path) -> KimiVLImageProcessor:
        """From `preprocessor_config.json`; raises CheckpointError naming the file and what is
        wrong with it."""
        path = Path(folder) / "preprocessor_config.json"
        if not path.is_file():
            raise CheckpointError(f"{path}: missing; the image processor needs it")
        return cls(**check_preprocessor(read_object(path), path))

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """(rows, columns) of patches for an image; raises ProblemError above 511 a side."""
        width, height = target_size(width, height, self.patch_size, self.in_token_limit)
        block_height, block_width = (side * self.patch_size for side in self.merge_kernel_size)
        rows = math.ceil(height / block_height) * self.merge_kernel_size[0]
        columns = math.ceil(width / block_width) * self.merge_kernel_size[1]
        if max(rows, columns) >= MAX_PATCHES_PER_SIDE:
            raise ProblemError(
                f"image of {width}×{height} pixels makes {rows}×{columns} patches; "
                f"either side must stay below {MAX_PATCHES_PER_SIDE}"
            )
        return rows, columns

    def tokens(self, width: int, height: int) -> int:
        """Image tokens in the prompt: a quarter of the patches."""
        rows, columns = self.grid(width, height)
        return rows * columns // (self.merge_kernel_size[0] * self.merge_kernel_size[1])

    def patchify(self, image: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
        """f32 [rows·columns, 3, patch, patch] and (rows, columns)."""
        rows, columns = self.grid(*image.size)
        size = target_size(*image.size, self.patch_size, self.in_token_limit)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BICUBIC)
        padded = (columns * self.patch_size, rows * self.patch_size)
        # Padding comes before the conversion: a palette image is padded with its colour 0.
        if padded != image.size:
            image = image.crop((0, 0, *padded))
        pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
        mean, std = (np.asarray(v, dtype=np.float32) for v in (self.image_mean, self.image_std))
        pixels = (pixels - mean) / std
        blocks = pixels.reshape(rows, self.patch_size, columns, self.patch_size, 3)
        patches = blocks.transpose(0, 2, 4, 1, 3).reshape(
            rows * columns, 3, self.patch_size, self.patch_size
        )
        return np.ascontiguousarray(patches), (rows, columns)

    def preprocess(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        images: Image.Image | Sequence[Image.Image],
        return_tensors: str | None = None,
        **_: Any,
    ) -> BatchFeature:
        """pixel_values f32 [P, 3, 14, 14] of all images, image_grid_hws int64 [images, 2]."""
        images = [images] if isinstance(images, Image.Image) else list(images)
        patches, grids = zip(*(self.patchify(image) for image in images), strict=True)
        data = {
            "pixel_values": torch.from_numpy(np.concatenate(patches)),
            "image_grid_hws": torch.tensor(grids, dtype=torch.int64),
        }
        return BatchFeature(data)
