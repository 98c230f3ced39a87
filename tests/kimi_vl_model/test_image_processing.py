from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kvl.configs.errors import CheckpointError
from kvl.kimi_vl_model.image_processing import KimiVLImageProcessor
from kvl.problems.types import ProblemError
from PIL import Image

Measured = Callable[[str, object], None]

# (width, height), grid and tokens with 4,096 patches, the same with 16,384 (spec, model.md §6).
VECTORS = [
    ((640, 480), (36, 46), 414, (36, 46), 414),
    ((900, 900), (66, 66), 1089, (66, 66), 1089),
    ((1024, 768), (56, 74), 1036, (56, 74), 1036),
    ((1920, 1080), (48, 86), 1032, (78, 138), 2691),
    ((1792, 1792), (64, 64), 1024, (128, 128), 4096),
    ((3840, 2160), (48, 86), 1032, (98, 172), 4214),
    ((4000, 3000), (56, 74), 1036, (112, 150), 4200),
    ((1, 1), (2, 2), 1, (2, 2), 1),
]


def reference(image: Image.Image, limit: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The published steps, one after the other, patch by patch."""
    width, height = image.size
    if (width // 14) * (height // 14) > limit:
        scale = math.sqrt(limit / ((width // 14) * (height // 14)))
        image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    width, height = image.size
    stored = np.asarray(image)
    full = np.zeros((-(-height // 28) * 28, -(-width // 28) * 28, *stored.shape[2:]), stored.dtype)
    full[:height, :width] = stored
    if image.mode == "1":
        padded = Image.fromarray(full.astype(np.uint8) * 255).convert("1")
    else:
        channels = [full] if full.ndim == 2 else [full[..., c] for c in range(full.shape[-1])]
        planes = [Image.fromarray(channel) for channel in channels]
        padded = planes[0] if len(planes) == 1 else Image.merge(image.mode, planes)
    if image.mode == "P":
        palette = image.getpalette()
        assert palette is not None
        padded = padded.copy()
        padded.putpalette(palette)
    rgb = np.asarray(padded.convert("RGB"))
    values = (rgb.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    rows, columns = values.shape[0] // 14, values.shape[1] // 14
    patches = [
        values[14 * i : 14 * i + 14, 14 * j : 14 * j + 14].transpose(2, 0, 1)
        for i in range(rows)
        for j in range(columns)
    ]
    return np.stack(patches), (rows, columns)


def random_image(mode: str, width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    rgba = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8))
    if mode == "P":
        # Colour 0 of the palette is not black, so padding before or after conversion differs.
        image = Image.fromarray(rng.integers(0, 8, (height, width), dtype=np.uint8))
        image.putpalette([200, 30, 90, *rng.integers(0, 256, 21).tolist()])
        return image
    return rgba if mode == "RGBA" else rgba.convert(mode)


@pytest.mark.parametrize(("size", "small", "small_tokens", "large", "large_tokens"), VECTORS)
def test_published_size_vectors(
    size: tuple[int, int],
    small: tuple[int, int],
    small_tokens: int,
    large: tuple[int, int],
    large_tokens: int,
) -> None:
    for limit, grid, tokens in (4096, small, small_tokens), (16384, large, large_tokens):
        processor = KimiVLImageProcessor(in_token_limit=limit)
        assert processor.grid(*size) == grid
        assert processor.tokens(*size) == tokens
        assert grid[0] * grid[1] // 4 == tokens


def test_predicted_grid_is_the_grid_of_the_patches() -> None:
    processor = KimiVLImageProcessor(in_token_limit=64)
    for size in [(1, 1), (28, 29), (113, 57), (300, 40), (29, 500)]:
        patches, grid = processor.patchify(random_image("L", *size, seed=0))
        assert grid == processor.grid(*size)
        assert patches.shape == (grid[0] * grid[1], 3, 14, 14)
        assert patches.dtype == np.float32


def test_sides_of_512_patches_and_more_are_refused() -> None:
    processor = KimiVLImageProcessor()
    with pytest.raises(ProblemError, match="512"):
        processor.grid(7200, 100)
    with pytest.raises(ProblemError, match="512"):
        processor.patchify(Image.new("L", (100, 7200)))
    assert processor.grid(510 * 14, 28) == (2, 510)
    with pytest.raises(ProblemError, match="512"):
        processor.grid(510 * 14 + 1, 28)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK"])
def test_pixels_are_bit_equal_to_the_published_steps(mode: str, measured: Measured) -> None:
    sizes = random.Random(mode)
    for number in range(30):  # 210 images over the seven modes
        limit = (20, 4096)[number % 2]  # every other image is scaled down
        width, height = sizes.randint(1, 260), sizes.randint(1, 260)
        image = random_image(mode, width, height, seed=number)
        expected, grid = reference(image, limit)
        patches, actual_grid = KimiVLImageProcessor(in_token_limit=limit).patchify(image)
        assert actual_grid == grid
        assert np.array_equal(patches, expected), (mode, width, height, limit)
    measured("images, all bit-equal", 30)


def test_padding_is_the_zero_of_the_original_mode() -> None:
    processor = KimiVLImageProcessor()
    corner = {
        mode: tuple(processor.patchify(random_image(mode, 20, 20, seed=1))[0][-1, :, -1, -1])
        for mode in ("RGB", "RGBA", "L", "CMYK", "P")
    }
    black, white = (-1.0,) * 3, (1.0,) * 3
    assert corner["RGB"] == corner["RGBA"] == corner["L"] == black
    assert corner["CMYK"] == white
    assert corner["P"] == pytest.approx([c / 127.5 - 1 for c in (200, 30, 90)])


def test_images_are_laid_one_after_the_other() -> None:
    processor = KimiVLImageProcessor()
    images = [random_image("RGB", 30, 60, seed=0), random_image("RGB", 56, 28, seed=1)]
    features = processor.preprocess(images)
    assert features["image_grid_hws"].tolist() == [[6, 4], [2, 4]]
    assert features["image_grid_hws"].dtype == torch.int64
    expected = np.concatenate([processor.patchify(image)[0] for image in images])
    assert features["pixel_values"].dtype == torch.float32
    assert np.array_equal(features["pixel_values"].numpy(), expected)


def test_settings_come_from_the_checkpoint_folder(checkpoint: Path, tmp_path: Path) -> None:
    assert KimiVLImageProcessor.from_folder(checkpoint).in_token_limit == 4096
    (tmp_path / "preprocessor_config.json").write_text(
        '{"auto_map": {"AutoImageProcessor": "x.Y"}, "in_token_limit": 16384, "patch_size": 14}'
    )
    assert KimiVLImageProcessor.from_folder(tmp_path).in_token_limit == 16384
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: missing"):
        KimiVLImageProcessor.from_folder(tmp_path / "nowhere")
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: not valid JSON"):
        KimiVLImageProcessor.from_folder(tmp_path)
