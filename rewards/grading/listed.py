"""Answers with several parts: selected letters, lists of values, and yes or no."""

from __future__ import annotations

import re

from .expression import compare
from .math_pool import Comparisons, MathJob
from .reading.choice import is_denied
from .reading.normalization import narrow, plain, words

_LETTERS = re.compile(
    r"\W*(?:(?:options?|choices?|选项|选)\s*)?"
    r"((?:[(\[]?[A-Z][)\]]?(?:[\s.,;、/&+]|and|和|与|及)*)+)",
)
_TYPESETTING = re.compile(r"\\(?:text|mathrm|textbf|mathbf|boxed)|[{}$*]")
_SUBJECT = r"\W*(?:(?:(?:the|this|that|given)\s+)*(?:statement|claim|assertion|it)\s+is\s+)?\W*"
_TRUE = re.compile(rf"{_SUBJECT}(?:true|yes|correct|正确|对|是)\b", re.IGNORECASE)
_FALSE = re.compile(
    rf"{_SUBJECT}(?:false|no|incorrect|not\s+(?:true|correct)|错误|错|否|不对|不是|不正确)\b",
    re.IGNORECASE,
)
_OF_LETTERS = re.compile(r"(?:is|are|was|were)\b")
_LONE_LETTER = re.compile(r"(?<![A-Za-z0-9'])[A-Z](?![A-Za-z0-9'])")
_STATES = re.compile(r"\b(?:is|are|was|were|be)\b|:(?=\s)")
_LEFT_SIDE = re.compile(r"^\([a-z](?:,[a-z])*\)=")
_WORD_OF_TEXT = re.compile(r"(?<!\\)[A-Za-z]{3}|[一-鿿]")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def selected_letters(text: str, whole: bool) -> frozenset[str] | None:
    """The letters that "BD", "B, D" or "(B)和(D)" select; None if it is no such list.

    With `whole` nothing may follow; otherwise a sentence may ("BD, because …", "B and D are
    right"), as long as it denies nothing and speaks of no other letter.
    """
    text = _TYPESETTING.sub(" ", narrow(text)).strip()
    match = _LETTERS.match(text)
    if match is None:
        return None
    rest = text[match.end() :]
    if whole and rest.strip(" .。"):
        return None
    if re.match(r"[A-Za-z]", rest) and (
        not _OF_LETTERS.match(rest) or is_denied(rest) or _LONE_LETTER.search(rest)
    ):
        return None
    return frozenset(re.findall(r"[A-Z]", match[1]))


def truth_value(text: str) -> bool | None:
    """What "True", "no." or 正确 says; None if it says neither."""
    text = _TYPESETTING.sub("", narrow(text))
    if _FALSE.match(text):
        return False
    return True if _TRUE.match(text) else None


def compare_lists(gold: str, prediction: str, lenient: bool) -> bool | MathJob:
    """Whether two lists have equal items in the same order; brackets may be left out."""
    golds, items = split_list(gold), split_list(prediction)
    if len(golds) != len(items):
        return False
    verdicts = [
        _same_name(one, other) or compare(one, other, lenient)
        for one, other in zip(golds, items, strict=True)
    ]
    if False in verdicts:
        return False
    if all(verdict is True for verdict in verdicts):
        return True
    if len(verdicts) == 1:
        return verdicts[0]
    return Comparisons("all", tuple(v for v in verdicts if not isinstance(v, bool)))


def _same_name(one: str, other: str) -> bool:
    """Whether two items are the same words; a list may quote them or not."""
    if not any(_WORD_OF_TEXT.search(item) or item[:1] in "'\"" for item in (one, other)):
        return False
    return words(one) == words(other)


def listed_part(text: str) -> str:
    """The list inside "The sides are 3, 4 and 5."; a text without a verb is the list itself."""
    listed = _STATES.split(text)[-1].strip()
    return listed if len(split_list(listed)) > 1 else text


def names_several(text: str) -> bool:
    """Whether a gold answer is several values, and not one point, interval or matrix."""
    text = re.sub(r"\\([{}])", r"\1", plain(text)).strip()
    if text[:1] in ("(", "[") and _encloses(text):
        return False
    return len(split_list(text)) > 1


def split_list(text: str) -> list[str]:
    """The items of "[1, 2]", "(1, 2)", "1, 2" or "1 and 2"."""
    text = re.sub(r"\\([{}])", r"\1", plain(text)).strip()
    if text and _BRACKETS.get(text[0]) == text[-1] and _encloses(text):
        text = text[1:-1]
    items, depth, start, quote = [], 0, 0, ""
    for position, character in enumerate(text):
        if quote or (character in "'\"" and not text[start:position].strip()):
            quote = "" if character == quote else quote or character
            continue
        depth += (character in "([{") - (character in ")]}")
        if character in ",;、" and depth == 0:
            items.append(text[start:position])
            start = position + 1
    items.append(text[start:])
    items = [_LEFT_SIDE.sub("", item) for item in items]
    parts = [part for item in items for part in re.split(r"(?<![A-Za-z])and(?![A-Za-z])", item)]
    return [part.strip() for part in parts if part.strip()]


def _encloses(text: str) -> bool:
    """Whether the first bracket closes only at the end."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return position == len(text) - 1
    return False
