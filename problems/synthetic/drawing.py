"""Tiny pictures: sides are multiples of 28 px, because one image token covers 28 by 28 px."""

from __future__ import annotations

import io
from functools import lru_cache
from random import Random

from PIL import Image, ImageDraw, ImageFont

from ..types import ImageSource

CELL = 28
Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "blue": (40, 80, 220),
    "green": (30, 150, 60),
    "orange": (245, 150, 20),
    "purple": (140, 50, 170),
}
SHAPES = ("circle", "square", "triangle", "diamond")

# From 20 on, PIL's built-in font draws digits at least 14 px tall.
FONT_SIZES = (20, 21, 22)


@lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


class Canvas:
    """A light page of `columns` by `rows` cells of 28 px, with its pen."""

    def __init__(self, columns: int, rows: int, rng: Random) -> None:
        self.width, self.height = columns * CELL, rows * CELL
        paper = (rng.randint(238, 255), rng.randint(238, 255), rng.randint(238, 255))
        self._image = Image.new("RGB", (self.width, self.height), paper)
        self.pen = ImageDraw.Draw(self._image)

    def text(self, x: float, y: float, text: str, size: int, ink: Colour, anchor: str) -> None:
        """Write `text` with its anchor point (PIL's two letters) at x, y."""
        self.pen.text((x, y), text, font=font(size), fill=ink, anchor=anchor)

    def shape(self, kind: str, box: Box, colour: Colour) -> None:
        left, top, right, bottom = box
        middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
        if kind == "circle":
            self.pen.ellipse(box, fill=colour)
        elif kind == "square":
            self.pen.rectangle(box, fill=colour)
        elif kind == "triangle":
            self.pen.polygon([(middle_x, top), (right, bottom), (left, bottom)], fill=colour)
        else:
            corners = [(middle_x, top), (right, middle_y), (middle_x, bottom), (left, middle_y)]
            self.pen.polygon(corners, fill=colour)

    def shape_in_cell(self, column: int, row: int, kind: str, colour: str, rng: Random) -> None:
        """Draw a shape somewhere inside a 28 px cell, never touching the next one."""
        side = rng.randint(17, 22)
        left = column * CELL + rng.randint(1, CELL - side - 2)
        top = row * CELL + rng.randint(1, CELL - side - 2)
        self.shape(kind, (left, top, left + side, top + side), shade(colour, rng))

    def png(self) -> ImageSource:
        buffer = io.BytesIO()
        self._image.save(buffer, format="PNG", compress_level=6)
        return ImageSource(data=buffer.getvalue())


def text_width(text: str, size: int) -> float:
    return font(size).getlength(text)


def cells_for(width: float) -> int:
    """How many 28 px cells hold `width` pixels and a small margin."""
    return -(-int(width + 6) // CELL)


def shade(colour: str, rng: Random) -> Colour:
    """A named colour as this picture's printer happened to mix it."""
    red, green, blue = (
        min(255, max(0, channel + rng.randint(-18, 18))) for channel in COLOURS[colour]
    )
    return red, green, blue


def dark_ink(rng: Random) -> Colour:
    return rng.randint(0, 70), rng.randint(0, 70), rng.randint(0, 90)
