"""From an encoded picture to what the image processor is given: upright, opaque, 8 bits a channel.

A picture that needs none of this is returned as decoded, so that what the model reads stays bit
for bit what the published processor makes of it.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

# The processor shrinks a picture to 3.2 million pixels at most: these bounds leave room for scans
# and photos, and for one that is decoded at a time in every worker.
MAX_FILE_BYTES = 2**26
MAX_PIXELS = 89_478_485  # a quarter of a GiB as RGB; Pillow warns of a bomb above this

# What is tried. Others run programs (EPS), are told by no signature (TGA) or hold no picture.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")

# Checked here, against the same bound, as an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LYING = (5, 6, 7, 8)
_PLAIN_MODES = ("1", "L", "P", "RGB")


def allowed_folders(source: Path, roots: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Where the pictures of a problem file may lie, without symbolic links.

    Its folder, the folder of the file that it links to (a hub cache keeps all files of a data set
    beside each other and links to them), and what the config allows besides.
    """
    return (source.parent.resolve(), source.resolve().parent, *(root.resolve() for root in roots))


def is_inside(path: Path, folders: Sequence[Path]) -> bool:
    """Whether a path, its links followed, lies in one of `folders`, which hold no links."""
    resolved = path.resolve()
    return any(resolved.is_relative_to(folder) for folder in folders)


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of at most `MAX_FILE_BYTES`. Raises `OSError`, or `ValueError`
    for a path that no file can have; never waits for a pipe or a device."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: that alone may do things
        raise OSError("not a regular file")
    # Without O_NONBLOCK, a pipe that has taken the file's place since would be waited for.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise OSError(_too_many_bytes("file"))
    return data


def opened(data: bytes) -> Image.Image:
    """The first picture of a file, its pixels not decoded yet.

    Raises `ValueError` in one line if it is none or too large; Pillow's own errors, of any type,
    for a broken header.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(_too_many_bytes("picture"))
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"not an image ({', '.join(FORMATS)} can be read)") from None
    except Image.DecompressionBombError:
        raise ValueError(f"more than {MAX_PIXELS} pixels") from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}×{image.height} pixels are more than {MAX_PIXELS}")
    if min(image.size) < 1:
        raise ValueError("no pixels")
    return image


def sized(data: bytes) -> Image.Image:
    """An image with the right size; its pixels are decoded only where it lies on its side.

    A PNG may say so behind its pixels, so that they are passed over. Raises like `opened`.
    """
    image = opened(data)
    if _orientation(image) in _LYING:
        return decoded(data)
    return image


def checked(data: bytes) -> tuple[int, int]:
    """(width, height) as stored, once all of the pixels are known to be there; like `decoded`.

    A JPEG is decoded at an eighth of its size: all its data is seen, in far less time.
    """
    image = opened(data)
    size = image.size
    if image.format in ("JPEG", "MPO"):
        image.draft(image.mode, (1, 1))
        image.load()
    else:
        decoded(data)
    return size


def decoded(data: bytes) -> Image.Image:
    """The first picture of a file as the processor takes it, in mode 1, L, P, RGB or opaque RGBA.

    Raises `ValueError` like `opened`, and Pillow's own errors for broken pixels.
    """
    image = opened(data)
    image.load()
    turn = _TURNS.get(_orientation(image))
    return normalised(image if turn is None else image.transpose(turn))


def normalised(image: Image.Image) -> Image.Image:
    """8 bits a channel, with white behind whatever is transparent.

    Raises `ValueError` for a mode that cannot be shown in colour.
    """
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _eight_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        lowest, _ = rgba.getchannel("A").getextrema()
        if lowest == 255:  # opaque after all
            return image if image.mode == "RGBA" else rgba.convert("RGB")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode in _PLAIN_MODES else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 if there is none or it makes no sense."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF data are an extra: a picture is usable without
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of a higher depth, as mode L: black stays black, and the top of the scale is white.

    The scale of whole numbers is 8, 12 or 16 bits, the least that holds them all: scanners and
    cameras of 12 bits write files of 16. That of fractions is 1 or 255. Anything else, as negative
    numbers, is spread from its least to its largest value; what is no number is black.
    """
    values = np.asarray(image).astype(np.float32)
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("no pixel is a number")
    low, high = float(finite.min()), float(finite.max())
    tops = (1, 255) if image.mode == "F" else (255, 2**12 - 1, 2**16 - 1)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    bottom, top = (low, high) if top is None else (0.0, float(top))
    # Halves, because the difference of the largest and the least float is none.
    span = top / 2 - bottom / 2 or 1.0
    scaled = np.nan_to_num((values / 2 - bottom / 2) / span, nan=0.0, posinf=0.0, neginf=0.0)
    grey = np.rint(scaled * 255).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _too_many_bytes(what: str) -> str:
    return f"a {what} of more than {MAX_FILE_BYTES // 2**20} MiB"
