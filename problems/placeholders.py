"""Where the pictures of a problem stand in its texts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .types import PLACEHOLDER, ProblemError, image_numbers

_BARE = re.compile(r"<image>")


def bind_in_order(texts: Sequence[str], images: int) -> tuple[str, ...]:
    """`texts`, read one behind the other, with every `<image>` as `<image N>` counted from 1.

    Texts that already number their pictures stay as they are. Where nothing names any, all of them
    come before the first text. Raises `ProblemError` if the counts differ or both forms are mixed.
    """
    bare = sum(len(_BARE.findall(text)) for text in texts)
    numbered = any(image_numbers(*texts))
    if bare and numbered:
        raise ProblemError("its text holds both <image> and numbered placeholders")
    if numbered:
        return tuple(texts)
    if not bare:
        before = "".join(f"<image {number}>" for number in range(1, images + 1))
        return (before + texts[0], *texts[1:])
    if bare != images:
        raise ProblemError(f"{bare} <image> in its text do not match {images} image(s)")
    numbers = iter(range(1, images + 1))
    return tuple(_BARE.sub(lambda _: f"<image {next(numbers)}>", text) for text in texts)


def bind_composite(question: str, options: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Give the one file to the first placeholder; the captions in it explain the others.

    `<image2>` becomes `image 2`, which reads on as a reference to a captioned figure.
    """
    bound = False

    def rewrite(match: re.Match[str]) -> str:
        nonlocal bound
        if not bound:
            bound = True
            return "<image1>"
        return f"image {match[1]}"

    question = PLACEHOLDER.sub(rewrite, question)
    return question, tuple(PLACEHOLDER.sub(rewrite, option) for option in options)
