"""The problem record: one question with its images and its right answer."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from PIL import Image

from ..configs.errors import ProblemError as ProblemError
from . import pictures

PLACEHOLDER = re.compile(r"<image ?(\d+)>")
CHOICE_LETTERS = string.ascii_uppercase
MAX_ID_CHARACTERS = 500
MAX_PRECISION = 20

_MAX_PLACEHOLDER_DIGITS = 4
# Control characters, halves of surrogate pairs, line and paragraph separators: an id stands alone
# in a line of a report or a terminal.
_NOT_IN_IDS = ("Cc", "Cs", "Zl", "Zp")


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
        """The encoded bytes. Raises `ProblemError` for what is no regular file, cannot be read or
        is larger than `pictures.MAX_FILE_BYTES`."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise ProblemError("image has neither a path nor data")
        try:
            return pictures.read_file(self.path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ProblemError(f"image {self.name}: {reason}") from error

    def open(self, *, pixels: bool = True) -> Image.Image:
        """Decode the first picture, upright, opaque and with 8 bits a channel (`pictures`).

        Without `pixels` only the header is read where that is enough for the size, which is the
        one after turning. Raises `ProblemError` if it is missing, corrupt or too large.
        """
        data = self.read()
        try:
            return pictures.decoded(data) if pixels else pictures.sized(data)
        except Exception as error:  # Pillow raises all sorts on broken files
            raise self.undecodable(error) from error

    @property
    def name(self) -> str:
        """For messages, in one line."""
        if self.path is None:
            return f"of {len(self.data or b'')} bytes"
        return one_line(str(self.path))

    def undecodable(self, error: Exception) -> ProblemError:
        """The one line that says why a picture cannot be used."""
        reason = one_line(str(error) or type(error).__name__)
        return ProblemError(f"image {self.name}: cannot be decoded ({reason})")


@dataclass(frozen=True, slots=True)
class Problem:
    """One multimodal problem, as every later stage receives it.

    Example: `Problem(id="arithmetic/l1/7", question="What is shown?\\n<image1>",
    images=(ImageSource(path=...),), answer="7", answer_type=AnswerType.NUMBER,
    family="arithmetic", level=1, solution="Plan: …◁/think▷-free thinking text")`.

    question   holds one placeholder per image, `<image1>` or `<image 1>`, 1-based
    answer     the gold answer; for choices the letter. A tuple: several are accepted, and an
               answer is right that meets any of them
    options    texts of A, B, C, … Z; empty when the question is open (or lists them itself)
    level      the data's own difficulty, an integer that grows with it
    pass_rate  share of right answers of some model in [0, 1], as `kvl-rl rate` measures it
    solution   long-CoT thinking text without markers and without the final answer; may be None
    conclusion text after the thinking, of a demonstration kept verbatim (a policy's own response);
               None stands for "Answer: …"
    precision  decimals that the benchmark compares numbers with (MathVista's), None for no rule
    """

    id: str
    question: str
    images: tuple[ImageSource, ...]
    answer: str | tuple[str, ...]
    answer_type: AnswerType
    options: tuple[str, ...] = ()
    family: str = "unknown"
    level: int | None = None
    solution: str | None = None
    source: str = ""
    language: str = "en"
    pass_rate: float | None = None
    conclusion: str | None = None
    precision: int | None = None

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every accepted answer, the first of them the one to show."""
        return (self.answer,) if isinstance(self.answer, str) else self.answer

    @property
    def gold(self) -> str:
        """The answer that is shown and written."""
        return self.accepted[0]

    def __post_init__(self) -> None:
        if fault := id_fault(self.id):
            raise ProblemError(f"problem {one_line(self.id)}: {fault}")
        if fault := self._fault():
            raise ProblemError(f"problem {self.id}: {fault}")

    def _fault(self) -> str | None:
        """What is wrong with the fields besides the id."""
        if not self.accepted or not all(one.strip() for one in self.accepted):
            return "no answer" if len(self.accepted) < 2 else "an accepted answer is empty"
        if not self.question.strip():
            return "no question"
        if self.pass_rate is not None and not 0 <= self.pass_rate <= 1:
            return f"pass_rate {one_line(str(self.pass_rate))} is not in [0, 1]"
        if self.precision is not None and not 0 <= self.precision <= MAX_PRECISION:
            return f"precision {one_line(str(self.precision))} is not in 0 … {MAX_PRECISION}"
        if len(self.options) > len(CHOICE_LETTERS):
            return f"{len(self.options)} options; at most {len(CHOICE_LETTERS)} can be lettered"
        return self._unencodable() or self._misplaced() or self._outside_options()

    def _unencodable(self) -> str | None:
        """Text that no tokenizer takes and no file can hold."""
        texts = {
            "question": (self.question,),
            "answer": self.accepted,
            "options": self.options,
            "family": (self.family,),
            "solution": (self.solution or "",),
            "source": (self.source,),
            "language": (self.language,),
            "conclusion": (self.conclusion or "",),
        }
        for name, held in texts.items():
            if not is_encodable("".join(held)):
                return f"its {name} holds half a surrogate pair, which cannot be encoded"
        return None

    def _misplaced(self) -> str | None:
        digits = set(image_numbers(self.question, *self.options))
        if (longest := max(map(len, digits), default=0)) > _MAX_PLACEHOLDER_DIGITS:
            return f"a placeholder has a number of {longest} digits"
        named = set(map(int, digits))
        if named != set(range(1, len(self.images) + 1)):
            shown = one_line(str(sorted(named)))
            return f"placeholders {shown} do not match {len(self.images)} image(s)"
        return None

    def _outside_options(self) -> str | None:
        letters = CHOICE_LETTERS[: len(self.options)]
        for answer in self.accepted if self.options else ():
            if self.answer_type is AnswerType.CHOICE:
                if len(answer) != 1 or answer not in letters:
                    return f"answer {one_line(answer)!r} is none of the options {letters}"
            elif self.answer_type is AnswerType.MULTI_SELECT:
                outside = sorted(set(re.findall(r"[A-Z]", answer)) - set(letters))
                if outside:
                    named = ", ".join(outside)
                    return f"answer {one_line(answer)!r} names {named}, the options are {letters}"
        return None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that could not become a problem, and why; reported, never silently dropped."""

    id: str
    reason: str


def image_numbers(*texts: str) -> Iterable[str]:
    """The digits of every placeholder in the texts."""
    return (digits for text in texts for digits in PLACEHOLDER.findall(text))


def is_encodable(text: str) -> bool:
    """Whether UTF-8 can hold it: half a surrogate pair has no encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def id_fault(name: str) -> str | None:
    """Why a text is no id, None if it is one."""
    if not name.strip():
        return "its id is empty"
    if len(name) > MAX_ID_CHARACTERS:
        return f"its id has {len(name)} characters, at most {MAX_ID_CHARACTERS} are possible"
    if any(unicodedata.category(letter) in _NOT_IN_IDS for letter in name):
        return "its id holds a control character, a line break or half a surrogate pair"
    return None


def one_line(text: str, most: int = 200) -> str:
    """Text from a file or a library, for a message: printable, in one line, cut."""
    shown = "".join(
        letter if unicodedata.category(letter) not in _NOT_IN_IDS else ascii(letter)[1:-1]
        for letter in text[:most]
    )
    return shown if len(text) <= most else f"{shown}…"
