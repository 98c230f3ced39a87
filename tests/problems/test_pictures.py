"""Pictures: what the processor is given, and what is refused in one line."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kvl.kimi_vl_model.image_processing import KimiVLImageProcessor
from kvl.problems import pictures
from kvl.problems.types import ImageSource, ProblemError
from PIL import Image, ImageDraw

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def opened(image: Image.Image, kind: str = "PNG", **how: Any) -> Image.Image:
    return ImageSource(data=encoded(image, kind, **how)).open()


def ramp(top: float, dtype: type, bottom: float = 0) -> Image.Image:
    """32 columns from bottom to top."""
    return Image.fromarray(np.tile(np.linspace(bottom, top, 32), (8, 1)).astype(dtype))


def greys(image: Image.Image) -> np.ndarray:
    assert image.mode == "L"
    return np.asarray(image)[0].astype(int)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *(("RGBA", kind) for kind in ("PNG", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000")),
        *(("LA", kind) for kind in ("PNG", "TIFF", "JPEG2000")),
        ("P", "PNG"),
    ],
)
def test_what_is_transparent_shows_white(mode: str, kind: str) -> None:
    """A dark stroke on nothing, where nothing is stored as black."""
    image = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((4, 4, 12, 12), fill=(0, 0, 0, 255))
    how: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    stored = image.convert(mode) if mode != "P" else image.quantize(4)
    shown = opened(stored, kind, **how).convert("RGB")
    assert min(shown.getpixel((20, 20))) > 250  # pyright: ignore
    assert max(shown.getpixel((8, 8))) < 5  # pyright: ignore


@pytest.mark.parametrize(
    ("mode", "colour", "transparent"),
    [
        ("RGB", (0, 0, 1), (0, 0, 1)),
        ("L", 1, 1),
        ("P", 0, 0),
        ("P", 0, b"\x00\xff"),
        ("1", 0, 0),
        ("I;16", 300, 300),
    ],
)
def test_a_transparent_colour_shows_white(mode: str, colour: Any, transparent: Any) -> None:
    image = Image.new(mode, (28, 28), colour)
    if mode == "P":
        image.putpalette([0] * 6)
    image.putpixel((3, 3), {"RGB": (9, 9, 9), "P": 1, "1": 1, "I;16": 700}.get(mode, 9))
    shown = opened(image, transparency=transparent).convert("RGB")
    assert shown.getpixel((20, 20)) == (255, 255, 255)
    if mode != "1":
        assert shown.getpixel((3, 3)) != (255, 255, 255)


def test_half_transparent_ink_is_half_as_dark() -> None:
    assert opened(Image.new("RGBA", (4, 4), (0, 0, 0, 128))).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_a_picture_that_needs_nothing_is_patched_as_decoded(mode: str) -> None:
    image = Image.effect_noise((45, 30), 80).convert(mode)
    processor = KimiVLImageProcessor()
    ours, grid = processor.patchify(opened(image))
    published, same = processor.patchify(Image.open(io.BytesIO(encoded(image))))
    assert grid == same
    np.testing.assert_array_equal(ours, published)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_upright_and_says_its_size_before_it_is_decoded(
    kind: str, orientation: int
) -> None:
    upright = Image.new("RGB", (84, 56), "white")
    upright.paste("black", (0, 0, 28, 28))  # the corner that tells all eight apart, with the sides
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    turn = pictures._TURNS.get(undo)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = upright if turn is None else upright.transpose(turn)
    source = ImageSource(data=encoded(stored, kind, exif=exif))
    shown = source.open()
    assert shown.size == source.open(pixels=False).size == (84, 56)
    assert max(shown.getpixel((10, 10))) < 60  # pyright: ignore
    for place in ((70, 10), (10, 45), (70, 45)):
        assert min(shown.getpixel(place)) > 200  # pyright: ignore


@pytest.mark.parametrize("exif", [b"nonsense", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"MM"])
def test_senseless_exif_costs_nothing(exif: bytes) -> None:
    assert opened(Image.new("RGB", (84, 28)), "JPEG", exif=exif).size == (84, 28)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_is_none_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    assert opened(Image.new("RGB", (84, 28)), "JPEG", exif=exif).size == (84, 28)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (ramp(65535, np.uint16), "PNG"),
        (ramp(65535, np.uint16), "TIFF"),
        (ramp(4095, np.uint16), "PNG"),
        (ramp(255, np.uint16), "PNG"),
        (ramp(65535, np.int32), "TIFF"),
        (ramp(2_000_000_000, np.int32), "TIFF"),
        (ramp(900, np.int32, -900), "TIFF"),
        (ramp(1, np.float32), "TIFF"),
        (ramp(255, np.float32), "TIFF"),
        (ramp(3e38, np.float32, -3e38), "TIFF"),
        (ramp(1e-3, np.float32, -1e-3), "TIFF"),
    ],
)
def test_a_high_depth_is_scaled_and_not_cut(image: Image.Image, kind: str) -> None:
    expected = np.linspace(0, 255, 32)
    assert np.abs(greys(opened(image, kind)) - expected).max() <= 1


def test_big_endian_16_bits_are_scaled_too() -> None:
    values = np.linspace(0, 65535, 32).astype(">u2")
    image = Image.frombytes("I;16B", (32, 1), values.tobytes())
    assert np.abs(greys(opened(image, "TIFF")) - np.linspace(0, 255, 32)).max() <= 1


def test_a_dim_16_bit_picture_stays_dim() -> None:
    assert greys(opened(Image.new("I;16", (4, 4), 12850)))[0] == 50


def test_values_that_are_no_numbers_are_black_and_nothing_else_is_an_error() -> None:
    values = np.array([[np.nan, np.inf, 0.0, 1.0]], dtype=np.float32)
    assert list(greys(opened(Image.fromarray(values), "TIFF"))) == [0, 0, 0, 255]
    with pytest.raises(ProblemError, match="no pixel is a number"):
        opened(Image.fromarray(np.full((2, 2), np.nan, dtype=np.float32)), "TIFF")


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF")])
def test_other_colour_spaces_become_rgb(mode: str, kind: str) -> None:
    image = Image.new(mode, (8, 8), (0, 255, 255, 0) if mode == "CMYK" else (128, 255, 200))
    shown = opened(image, kind)
    red, green, blue = shown.getpixel((0, 0))  # pyright: ignore
    assert shown.mode == "RGB"
    assert red > green + 50 > blue


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_several_frames_the_first_is_shown(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    shown = opened(frames[0], kind, save_all=True, append_images=frames[1:]).convert("RGB")
    assert shown.getpixel((4, 4))[0] > 200  # pyright: ignore


@pytest.mark.parametrize("size", [(12_000, 12_000), (40_000, 40_000)])
@pytest.mark.parametrize("pixels", [True, False])
def test_too_many_pixels_are_one_line(size: tuple[int, int], pixels: bool) -> None:
    data = encoded(Image.new("1", (8, 8)))
    # The header alone says so: width and height stand at 16 in a PNG, and their checksum is last.
    header = b"IHDR" + struct.pack(">II", *size) + data[24:29]
    data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    with pytest.raises(ProblemError, match=r"cannot be decoded \(.*more than 89478485"):
        ImageSource(data=data).open(pixels=pixels)


def test_a_file_that_is_too_large_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("L", (8, 8))))
    os.truncate(path, pictures.MAX_FILE_BYTES)
    assert ImageSource(path=path).open().size == (8, 8)
    os.truncate(path, pictures.MAX_FILE_BYTES + 1)
    with pytest.raises(ProblemError, match="more than 64 MiB"):
        ImageSource(path=path).open()
    with pytest.raises(ProblemError, match="more than 64 MiB"):
        ImageSource(data=path.read_bytes()).open()


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "endless", "."):
        with pytest.raises(ProblemError, match="not a regular file"):
            ImageSource(path=tmp_path / name).open()
    for name in ("loop", "none", "x" * 5000, "a/" * 3000, "\0", "\ud800"):
        with pytest.raises(ProblemError, match="image "):
            ImageSource(path=tmp_path / name).open()


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    real = os.stat

    def swap(asked: Any, **how: Any) -> os.stat_result:
        seen = real(asked, **how)
        if asked == path:
            path.unlink()
            os.mkfifo(path)
        return seen

    monkeypatch.setattr(os, "stat", swap)
    with pytest.raises(ProblemError, match="not a regular file"):
        ImageSource(path=path).read()


@pytest.mark.parametrize(
    "data", [b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"P6 0 0 255\n"]
)
def test_what_is_no_picture_is_one_line(data: bytes) -> None:
    with pytest.raises(ProblemError) as caught:
        ImageSource(data=data).open()
    assert str(caught.value).isprintable()
