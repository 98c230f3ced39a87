"""The final answer of a free-form response, as the `eval` policy reads it.

Benchmarks are answered by models that were never taught a format: a box, "the answer is", a bare
value, or a concluding sentence. The order of trust is that of the list; the last commitment counts,
and a response that was cut off or that never concludes has no answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ....problems.prompt import THINK_CLOSE, THINK_OPEN
from .commitments import Commitment, boxes, holds_box, phrases, tags
from .denials import is_taken_back
from .extraction import NoAnswer

# Only the beginning and the end of a response this long can hold its answer.
MAX_SEARCHED_CHARACTERS = 12_000
MAX_COMMITTED_CHARACTERS = 1_000
MAX_BARE_CHARACTERS = 80

_THINKING_ENDS = (THINK_CLOSE, "</think>", "</thinking>", "</thought>")
_THINKING_OPENS = (THINK_OPEN, "<think>", "<thinking>", "<thought>")
_CONTROL_TOKEN = re.compile(r"<\|[a-z_]{2,20}\|>|<eo[a-z]>|</?s>|<unk>|<pad>", re.IGNORECASE)
_NEXT_TURN = re.compile(r"<\|im_start\|>(?:user|system)|\n(?:###\s*)?(?:Human|User|Question):")
# Pleasantries, table rows, and sentences that only announce what follows.
_NO_STATEMENT = re.compile(
    r"^(?:i hope|hope this|let me know|please let|if you have|is there anything|feel free|note that"
    r"|note:|do you have|would you like|i'm glad|thank)|\|.*\||\w \| \w|^[-|\s]+$|:$",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"(?<=\.\$\$)\s+(?=[A-Z])|(?<=[^\s.\d][.!?])\s+(?=[^a-z\s])|(?<=[\d)][.!?])\s+(?=[A-Z])|[。！？\n]+"
)
_CONCLUDES = re.compile(
    r"\b(?:therefore|thus|hence|so|in conclusion|consequently|finally|in total|altogether|answer)\b"
    r"|所以|因此|故|综上|\\therefore|∴|答",
    re.IGNORECASE,
)
_FINISHED = re.compile(r"[.!?。！？)\]}$*%°\"'`|>】]\s*$")
_ONLY_DENIES = re.compile(r"[*_\s]*(?:definitely |certainly |clearly )?not\b(?!.*\bbut\b)", re.I)
_LIST_ITEM = re.compile(r"\s*(?:[-*•]\s+|\d{1,2}[.)]\s+|\([a-z\d]\)\s*)(?P<said>\S.*)")
_SAYS_SOMETHING = re.compile(
    r"[=:≈]|\*\*|\b(?:is|are|was|were|has|have|gives?|gets?|equals?|makes?)\b|[是为有得]",
    re.IGNORECASE,
)
MAX_ITEM_WORDS = 4
_DISPLAY = re.compile(r"\\\[.*?\\\]|\$\$.*?\$\$", re.DOTALL)
_CODE_BLOCK = re.compile(r"```(?!output)\w*\n.*?(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Region:
    """The part of a response that can hold its answer, and where it starts in the response."""

    text: str
    start: int


def answer_region(response: str) -> Region:
    """What follows the thinking, if there is any, up to a hallucinated next turn.

    Raises `NoAnswer` if nothing is left, or if a thinking section was opened and never closed.
    """
    start = 0
    for marker in _THINKING_ENDS:
        if marker in response:
            start = max(start, response.rindex(marker) + len(marker))
    if start == 0 and any(marker in response for marker in _THINKING_OPENS):
        raise NoAnswer("the thinking never ends")
    end = len(response)
    if turn := _NEXT_TURN.search(response, start + 1):
        end = turn.start()
    if end - start > MAX_SEARCHED_CHARACTERS:
        start = end - MAX_SEARCHED_CHARACTERS
    # Blanked, not removed: offsets stay those of the response.
    text = _CONTROL_TOKEN.sub(lambda match: " " * len(match[0]), response[start:end])
    if not text.strip():
        raise NoAnswer("empty response")
    return Region(text, start)


def commitments(text: str) -> list[Commitment]:
    """All commitments of a region by position; a sentence around a box counts as the box."""
    boxed, _ = boxes(text)
    introduced = [phrase for phrase in phrases(text) if phrase.text and not holds_box(phrase.text)]
    found = boxed + introduced + tags(text)
    return sorted(found, key=lambda commitment: (commitment.end, commitment.start))


def final_commitment(text: str, several: bool = False) -> Commitment | None:
    r"""The last commitment of a region, or None.

    With `several` (the gold answer has several values), the boxes of one closing sentence are one
    answer: "\boxed{1} and \boxed{2}" is "1, 2". Raises `NoAnswer` if it is too long to be one.
    """
    found = [one for one in commitments(text) if not _takes_back(text, one)]
    if not found:
        return None
    last = found[-1]
    if len(last.text) > MAX_COMMITTED_CHARACTERS:
        raise NoAnswer("answer too long")
    if last.kind == "box" and several:
        return _joined_boxes(text, [one for one in found if one.kind == "box"])
    return last


def _takes_back(text: str, commitment: Commitment) -> bool:
    """Whether a commitment only says what the answer is not: "The answer is not 7. It is 8."."""
    if commitment.kind != "phrase":
        return is_taken_back(text, commitment.start, commitment.end)
    return _ONLY_DENIES.match(commitment.text) is not None


def _joined_boxes(text: str, found: list[Commitment]) -> Commitment:
    run = [found[-1]]
    for box in reversed(found[:-1]):
        between = _BOX_OPENING.sub("", text[box.end : run[0].start])
        if len(between) > 50 or ". " in between or not _CONNECTS.fullmatch(between):
            break
        run.insert(0, box)
    joined = ", ".join(dict.fromkeys(box.text for box in run))
    return Commitment(joined, run[0].start, run[-1].end, "box")


_BOX_OPENING = re.compile(r"\\(?:boxed|fbox)")
_CONNECTS = re.compile(r"[^A-Za-z]*|.*(?:[,;&+]|\band\b|quad|和|与).*", re.DOTALL)


def is_cut_off(text: str) -> bool:
    """Whether a long text stops in the middle of a sentence."""
    text = text.rstrip()
    last_line = text.rpartition("\n")[2]
    return len(last_line) > 60 and not _FINISHED.search(text)


def sentences(text: str) -> list[tuple[int, str]]:
    """(offset, sentence) in order, without pleasantries, code and run-on text."""
    text = _CODE_BLOCK.sub(lambda match: " " * len(match[0]), text)
    text = _DISPLAY.sub(lambda match: match[0].replace("\n", " "), text)
    found = []
    start = 0
    for end, following in [
        *((m.start(), m.end()) for m in _SENTENCE.finditer(text)),
        (len(text), len(text)),
    ]:
        sentence = text[start:end]
        stripped = sentence.strip()
        if 0 < len(stripped) <= MAX_COMMITTED_CHARACTERS and not _NO_STATEMENT.search(
            stripped.lstrip("*_ ")
        ):
            found.append((start + len(sentence) - len(sentence.lstrip()), stripped))
        start = following
    return found


def concluding_sentences(text: str) -> list[tuple[int, str]]:
    """The sentences that may conclude, most trusted first.

    A sentence with "therefore" near the end, the last sentence, then the first one: models either
    reason and conclude, or answer and explain.
    """
    found = sentences(_without_enumeration(text))
    if not found:
        return []
    ordered = [item for item in reversed(found[-3:]) if _CONCLUDES.search(item[1])]
    ordered += [found[-1], found[0]] if len(found) > 3 else [found[0], found[-1]]
    return list(dict.fromkeys(ordered))


def _without_enumeration(text: str) -> str:
    """Without the list of bare items that ends a text: its last one is no conclusion.

    Bare lines count where the text has no others. Blanked, so that offsets stay.
    """
    lines = text.splitlines(keepends=True)
    while lines and not lines[-1].strip():
        lines.pop()
    kept = len(lines)
    while kept and _is_item(lines[kept - 1]):
        kept -= 1
    alone = [line for line in lines if line.strip()]
    if len(lines) - kept < 2 and (len(alone) < 2 or not all(map(_is_bare, alone))):
        return text
    start = 0 if len(lines) - kept < 2 else sum(map(len, lines[:kept]))
    return text[:start] + re.sub(r"[^\n]", " ", text[start:])


def _is_item(line: str) -> bool:
    match = _LIST_ITEM.fullmatch(line.rstrip())
    return match is not None and _is_bare(match["said"])


def _is_bare(line: str) -> bool:
    said = line.strip()
    return (
        len(said.split()) <= MAX_ITEM_WORDS
        and not _SAYS_SOMETHING.search(said)
        and not _CONCLUDES.search(said)
        and said[-1] not in ".!?。"
    )
