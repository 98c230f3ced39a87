r"""Where a text commits to an answer: `\boxed{X}`, "the answer is X", 答案是X, `<answer>X`.

Both grading policies start from these; they differ in what they make of several, or of none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

Kind = Literal["box", "phrase", "tag"]

_BOX = re.compile(r"\\?\\(?:boxed|fbox)(?![A-Za-z])\s*(\{)?")
_SINGLE_TOKEN = re.compile(r"\s*(\w)")
_PHRASE = re.compile(
    r"""
    (?:\bthe\s+)? (?:\b(?:final|correct|right|best)\s+)*
    \banswers?(?!\s+choices?\b)
      (?:\s+(?:to|for|of)\s+[^.:\n]{1,80}?)? (?:\s+(?:letter|option|choice))?
      (?: \s+(?:is|are|was|would\s+be|should\s+be|must\s+be|will\s+be)\b | [*_]{0,2}\s*[:=]
        | (?<=final\ answer)\s+[-–—](?=\s) )
    | (?:\bthe\s+)? \b(?:correct|right|best)\s+(?:option|choice|statement) (?:\s+letter)?
      (?:\s+for\s+[^.:\n]{1,80}?)? (?: \s+(?:is|would\s+be)\b(?!\s+that\b) | [*_]{0,2}\s*: )
    | (?:最终|正确|最后|所以|因此)?(?:的)?(?:答案|选项)\s*
      (?:应该是|应该为|应该选|应是|应为|应选|就是|是|为|选|[:=])
    | 【\s*(?:最终|正确)?答案\s*】
    | (?:故|因此|所以|应|本题|综上)[,，]?\s*选(?:择)?(?:项)?\s*:?(?=\s*[(\[]?[A-J])
    | (?:答え|解答)は\s*
    | ^\s*\#{4}(?=\s)
    | ^\s*(?:ans|答)\s*[:=]
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_AFTER_PHRASE = re.compile(r"(?:[\s:*_]|\b(?:that|indeed|therefore|thus)\b)*")
_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
# A full stop ends the answer only when a new sentence starts: not in "3.5", not in "C. 12 cm".
_SENTENCE_END = re.compile(
    r"(?<=[^\s.])\.(?:\*\*)?\s+(?=(?:[A-Z][a-z]*|I'm)[\s,]|[$\\])|。|(?<=[\w)}$])\.(?=The\s+answer)"
)


_EMPHASIS_END = re.compile(r"(\*\*|__|(?<!\*)\*|`)\s*\.?\s*$")


@dataclass(frozen=True, slots=True)
class Commitment:
    r"""One committed answer: its text and where it stands.

    Example: in "So \\boxed{12}." the box is `Commitment("12", 10, 12, "box")`.
    `start` and `end` are character offsets of `text` (before stripping none is lost but spaces).
    """

    text: str
    start: int
    end: int
    kind: Kind


def boxes(text: str) -> tuple[list[Commitment], bool]:
    r"""Every outermost `\boxed{…}` in order, and whether the last one is cut off."""
    found = []
    position = 0
    while match := _BOX.search(text, position):
        if not match[1]:  # \boxed 5
            token = _SINGLE_TOKEN.match(text, match.end())
            position = token.end() if token else match.end()
            if token:
                found.append(_commitment(text, token.start(1), token.end(1), "box"))
            continue
        end = _closing_brace(text, match.end())
        if end is None:
            return found, True
        found.append(_commitment(text, match.end(), end, "box"))
        position = end + 1
    return found, False


def _closing_brace(text: str, start: int) -> int | None:
    depth = 1
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1  # an escaped brace opens and closes nothing
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None


def phrases(text: str) -> list[Commitment]:
    """The text each "the answer is" introduces: the rest of its sentence, or the block below."""
    matches = list(_PHRASE.finditer(text))
    found = []
    for match, following in zip_longest(matches, matches[1:]):
        limit = following.start() if following else len(text)
        introduced = _AFTER_PHRASE.match(text, match.end(), limit)
        start = introduced.end() if introduced else match.end()
        end = start + len(_without_emphasis(_sentence(_block(text[start:limit]))))
        # Nothing before the next commitment: "Answer: the final answer is 5" commits once.
        if text[start:end].strip() or limit == len(text):
            found.append(_commitment(text, start, end, "phrase"))
    return found


def tags(text: str) -> list[Commitment]:
    """The contents of `<answer>…</answer>`."""
    return [_commitment(text, m.start(1), m.end(1), "tag") for m in _TAG.finditer(text)]


def holds_box(text: str) -> bool:
    return _BOX.search(text) is not None


def _block(text: str) -> str:
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if text.startswith(opening) and closing in text[2:]:
            return text[: text.index(closing, 2) + 2]
    return text.partition("\n")[0]


def _sentence(text: str) -> str:
    return _SENTENCE_END.split(text, maxsplit=1)[0]


def _without_emphasis(text: str) -> str:
    """Without the end of a Markdown emphasis that began before the answer: `**Answer: 12**`."""
    while (match := _EMPHASIS_END.search(text)) and text.count(match[1]) % 2:
        text = text[: match.start()]
    return text


def _commitment(text: str, start: int, end: int, kind: Kind) -> Commitment:
    raw = text[start:end]
    stripped = raw.strip()
    start += len(raw) - len(raw.lstrip())
    return Commitment(stripped, start, start + len(stripped), kind)
