"""The one final answer a response commits to.

Only the text after `◁/think▷` is read: the thinking is never searched (spec/algorithm.md §2, after
Kimi-VL report fig. 5). A response that is malformed, or that commits to nothing or to two different
things, has no answer.
"""

from __future__ import annotations

import re
from itertools import zip_longest

from .choice import named_letter
from .hedges import without_assignment
from .normalization import comparable, narrow, unwrap_box
from .units import split_unit

OPENING = "◁think▷"
CLOSING = "◁/think▷"
END_OF_TURN = "<|im_end|>"
MAX_ANSWER_CHARACTERS = 500
MAX_BARE_TAIL_CHARACTERS = 100

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_COMMITMENT = re.compile(
    r"""
    (?:\bthe\s+)? (?:\b(?:final|correct)\s+)*
    (?: \banswer (?:\s+to\s+[^.:\n]{1,80}?)? (?:\s+is\b | \*{0,2}\s*[:=])
      | (?<=correct\s)(?:option|choice) (?:\s+letter)? (?:\s+is\b | \s*[:]) )
    | (?:最终|正确)?答案\s*(?:应该是|应为|是|为|[:=])
    | 【\s*(?:最终|正确)?答案\s*】
    """,
    re.IGNORECASE | re.VERBOSE,
)
_AFTER_COMMITMENT = re.compile(r"(?:[\s:*]|\bthat\b)*")
# A full stop ends the answer only when a new sentence starts: not in "3.5", not in "C. 12 cm".
_SENTENCE_END = re.compile(r"(?<=[^\s.])\.\s+(?=[A-Z][a-z]*\s|[$\\])|。")


class NoAnswer(Exception):
    """The response cannot be graded because it holds no usable answer; the message says why."""


def extract_answer(response: str) -> str:
    """The final answer of a whole response, without its introduction ("Answer: 12" -> "12").

    Raises `NoAnswer` if the thinking markers are wrong, the thinking is empty, or the text after
    it does not commit to exactly one answer.
    """
    return committed_answer(text_after_thinking(response))


def text_after_thinking(response: str) -> str:
    """What follows the closing marker, without the end-of-turn token.

    Raises `NoAnswer` unless there is one opening marker, some thinking, and one closing marker.
    """
    if response.count(OPENING) != 1 or response.count(CLOSING) != 1:
        raise NoAnswer(f"needs exactly one {OPENING} and one {CLOSING}")
    _, _, rest = response.partition(OPENING)
    thinking, closing, tail = rest.partition(CLOSING)
    if not closing:
        raise NoAnswer(f"{CLOSING} comes before {OPENING}")
    if not thinking.strip():
        raise NoAnswer("empty thinking")
    return tail.strip().removesuffix(END_OF_TURN).strip()


def committed_answer(tail: str) -> str:
    r"""The one answer of the tail: `\boxed{X}`, "Answer: X", "答案是X" or a bare short tail.

    Raises `NoAnswer` if there is none, if there are several, or if it is too long.
    """
    if not tail:
        raise NoAnswer("nothing after the thinking")
    tail = narrow(tail)
    boxes = _boxes(tail)
    phrases = _phrases(tail)
    if boxes or phrases:
        answer = _agreed(boxes, phrases)
    elif len(tail) <= MAX_BARE_TAIL_CHARACTERS:
        answer = tail
    else:
        raise NoAnswer("no committed answer")
    if not comparable(answer):
        raise NoAnswer("empty answer")
    return answer


def _boxes(tail: str) -> list[str]:
    contents = []
    position = 0
    while match := _BOX.search(tail, position):
        depth = 1
        position = match.end()
        while depth and position < len(tail):
            character = tail[position]
            if character == "\\":
                position += 1  # an escaped brace opens and closes nothing
            else:
                depth += (character == "{") - (character == "}")
            position += 1
        if depth:
            raise NoAnswer("unbalanced \\boxed")
        contents.append(tail[match.end() : position - 1].strip())
    return contents


def _phrases(tail: str) -> list[str]:
    """The text each "the answer is" introduces: the rest of its sentence, or the line below."""
    matches = list(_COMMITMENT.finditer(tail))
    found = []
    for match, following in zip_longest(matches, matches[1:]):
        end = following.start() if following else len(tail)
        introduced = _AFTER_COMMITMENT.match(tail, match.end(), end)
        start = introduced.end() if introduced else match.end()
        answer = _first_block(tail[start:end])
        answer = _SENTENCE_END.split(answer, maxsplit=1)[0].strip()
        # Nothing before the next commitment: "Answer: the final answer is 5" commits once.
        if answer or end == len(tail):
            found.append(answer)
    return found


def _first_block(text: str) -> str:
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if text.startswith(opening) and closing in text[2:]:
            return text[: text.index(closing, 2) + 2]
    return text.partition("\n")[0]


def _agreed(boxes: list[str], phrases: list[str]) -> str:
    """The answer on which all commitments agree; raises `NoAnswer` if they do not."""
    # A sentence around a box says what the box says: "The answer is $\boxed{5}$ apples".
    phrases = [phrase for phrase in phrases if not _BOX.search(phrase)]
    distinct = list(dict.fromkeys(boxes + phrases))
    # Before any work on them: a looping response can hold very long ones.
    if any(len(answer) > MAX_ANSWER_CHARACTERS for answer in distinct):
        raise NoAnswer("answer too long")
    commitments = [unwrap_box(answer) for answer in distinct]
    forms = {_value(answer) for answer in commitments}
    # "C" and "(C) 12 cm" are one commitment.
    letters = {named_letter(answer) for answer in commitments}
    if len(forms) > 1 and (len(letters) > 1 or None in letters):
        raise NoAnswer("several different answers")
    return commitments[0]


def _value(answer: str) -> str:
    """The answer without what may be left out: "x = 4 cm" and "4" are one commitment."""
    value, _ = split_unit(answer)
    return comparable(without_assignment(value, gold="")).removeprefix(r"\$")
