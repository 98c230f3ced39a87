"""Cells that hold pictures, in the forms that tables have for them; nothing is decoded here."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import pictures
from ..types import ImageSource, ProblemError, one_line

_MAX_BASE64 = pictures.MAX_FILE_BYTES // 3 * 4 + 4
_LONGEST_NAME = 1024  # a picture as text is far longer


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands.

    name      of the row, for one without an id: `train/17`
    folders   where its pictures may lie, without links; relative names start at the first
    """

    name: str
    folders: tuple[Path, ...]


def images(value: Any, column: str, place: Place) -> tuple[ImageSource, ...]:
    """The pictures of a cell that holds one, or a list of them; none where it is empty."""
    if isinstance(value, list | tuple):
        made = [image(one, column, place) for one in value]
        if None in made:
            raise ProblemError(f"{column} holds an empty picture")
        return tuple(one for one in made if one is not None)
    one = image(value, column, place)
    return () if one is None else (one,)


def image(value: Any, column: str, place: Place) -> ImageSource | None:
    """A picture given as bytes, a struct of bytes and path, base64, a data URL or a file's name.

    Raises `ProblemError` for anything else, and for a file outside of the folders of `place`.
    """
    if isinstance(value, dict):
        known = [value.get(key) for key in ("bytes", "path", "image", "url")]
        value = next((one for one in known if one), None)
        if isinstance(value, dict):
            raise ProblemError(f"{column} is a struct without a picture")
    if value is None or value == "" or value == b"":
        return None
    if isinstance(value, bytes):
        return ImageSource(data=value)
    if not isinstance(value, str):
        raise ProblemError(f"{column} is {type(value).__name__}, not an encoded image")
    if value.startswith(("http://", "https://")):
        raise ProblemError(f"image {one_line(value)}: an address, which is not downloaded")
    if value.startswith("data:"):
        return from_base64(value.partition(",")[2], column)
    return from_base64(value, column) if len(value) > _LONGEST_NAME else _file(value, place)


def from_base64(value: str, column: str) -> ImageSource:
    """Raises `ProblemError` if the text is no base64, or more than a picture may hold."""
    if len(value) > _MAX_BASE64:
        raise ProblemError(f"{column} is longer than a picture may be")
    try:
        return ImageSource(data=base64.b64decode("".join(value.split()), validate=True))
    except (binascii.Error, ValueError):
        raise ProblemError(f"{column} {one_line(value, 40)!r} is not base64") from None


def _file(name: str, place: Place) -> ImageSource:
    if "\0" in name or not name.strip():
        raise ProblemError(f"image {one_line(name)!r} is no file name")
    path = place.folders[0] / name
    try:
        inside = pictures.is_inside(path, place.folders)
    except (OSError, ValueError, RuntimeError) as error:
        raise ProblemError(f"image {one_line(name)!r}: {one_line(str(error))}") from None
    if not inside:
        raise ProblemError(
            f"image {one_line(name)}: lies outside of {place.folders[0]}; a config can allow its "
            "folder by image_roots"
        )
    return ImageSource(path=path)
