"""The problem record: one question with its images and its one right answer."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from PIL import Image

from ..configs.errors import ProblemError as ProblemError

PLACEHOLDER = re.compile(r"<image ?(\d+)>")
CHOICE_LETTERS = "ABCDEFGHIJ"


class AnswerType(StrEnum):
    CHOICE = "choice"
    MULTI_SELECT = "multi-select"  # several letters: "BD"
    NUMBER = "number"
    EXPRESSION = "expression"
    LIST = "list"  # several values in order: "[2, 0]"
    BOOL = "bool"  # true or false, yes or no
    TEXT = "text"
    OPEN = "open"  # as the gold answer looks: a number, an expression or text


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An encoded image, by path or by bytes; decoded only by `open`, never kept decoded."""

    path: Path | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """The encoded bytes. Raises `ProblemError` if the file cannot be read."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise ProblemError("image has neither a path nor data")
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ProblemError(f"image {self.path}: {error.strerror or error}") from error

    def open(self, *, pixels: bool = True) -> Image.Image:
        """Decode in the image's own mode. Raises `ProblemError` if it is missing or corrupt.

        Without `pixels` only the header is read, which is enough for the size.
        """
        try:
            image = Image.open(io.BytesIO(self.read()))
            if pixels:
                image.load()
        except ProblemError:
            raise
        except Exception as error:
            where = self.path if self.path is not None else f"{len(self.data or b'')} bytes"
            raise ProblemError(f"image {where}: cannot be decoded ({error})") from error
        return image


@dataclass(frozen=True, slots=True)
class Problem:
    """One multimodal problem, as every later stage receives it.

    Example: `Problem(id="arithmetic/l1/7", question="What is shown?\\n<image1>",
    images=(ImageSource(path=...),), answer="7", answer_type=AnswerType.NUMBER,
    family="arithmetic", level=1, solution="Plan: …◁/think▷-free thinking text")`.

    question   holds one placeholder per image, `<image1>` or `<image 1>`, 1-based
    answer     the gold answer; for choices the letter
    options    texts of A, B, C, …; empty when the question is open (or lists them itself)
    level      the data's own difficulty, an integer that grows with it
    pass_rate  share of right answers of some model in [0, 1], as `kvl-rl rate` measures it
    solution   long-CoT thinking text without markers and without the final answer; may be None
    conclusion text after the thinking, of a demonstration kept verbatim (a policy's own response);
               None stands for "Answer: …"
    """

    id: str
    question: str
    images: tuple[ImageSource, ...]
    answer: str
    answer_type: AnswerType
    options: tuple[str, ...] = ()
    family: str = "unknown"
    level: int | None = None
    solution: str | None = None
    source: str = ""
    language: str = "en"
    pass_rate: float | None = None
    conclusion: str | None = None

    def __post_init__(self) -> None:
        if not self.answer.strip():
            raise ProblemError(f"problem {self.id}: no answer")
        if not self.question.strip():
            raise ProblemError(f"problem {self.id}: no question")
        if self.pass_rate is not None and not 0 <= self.pass_rate <= 1:
            raise ProblemError(f"problem {self.id}: pass_rate {self.pass_rate} is not in [0, 1]")
        named = {int(number) for number in PLACEHOLDER.findall(self.question)}
        for option in self.options:
            named |= {int(number) for number in PLACEHOLDER.findall(option)}
        expected = set(range(1, len(self.images) + 1))
        if named != expected:
            raise ProblemError(
                f"problem {self.id}: placeholders {sorted(named)} do not match "
                f"{len(self.images)} image(s)"
            )
        if self.answer_type is AnswerType.CHOICE and self.options:
            letters = CHOICE_LETTERS[: len(self.options)]
            if len(self.answer) != 1 or self.answer not in letters:
                raise ProblemError(
                    f"problem {self.id}: answer {self.answer!r} is none of the options {letters}"
                )
        if self.answer_type is AnswerType.MULTI_SELECT and self.options:
            letters = CHOICE_LETTERS[: len(self.options)]
            outside = set(re.findall(r"[A-Z]", self.answer)) - set(letters)
            if outside:
                raise ProblemError(
                    f"problem {self.id}: answer {self.answer!r} names "
                    f"{', '.join(sorted(outside))}, the options are {letters}"
                )


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that could not become a problem, and why; reported, never silently dropped."""

    id: str
    reason: str
