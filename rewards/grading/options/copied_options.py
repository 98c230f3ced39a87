"""A response that only repeats the options chooses none of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ....problems.types import CHOICE_LETTERS

MIN_COPIED = 2
# Two letters in a row ("A, B") may be an answer to something; three of more than three are a list.
MIN_LETTERS = 3
MAX_OPTION_CHARACTERS = 300
_BETWEEN = re.compile(r"(?:[\s,;.、|•/]|(?<=\s)[-*]\s|(?<=\s)(?:and|or)\s|和|或)*")
_BETWEEN_LETTERS = re.compile(r"[^\w\n]*[\s,/;、|]+[^\w]*")
# Nothing may be said about the last option of a list: "D. 24 cm is right", "B. 18 cm ✓".
_ENDS = re.compile(r"[*)\]}$]{0,9}[ \t]*(?:[.;,?!|](?![^\n]*[✓✔✅☑←√])|\n|\Z)")
_LETTERS_END = re.compile(r"[)\]*]*[ \t]*(?:\n|\Z|[.?!])")
# An option whose text is not known.
_ITEM = re.compile(r"(?:^|(?<=\s))[-*(\[]{0,9}(?P<letter>[A-Z])[)\].:、]+\**\s*(?=\S)")
_VERDICT = re.compile(
    r"\b(?:correct|incorrect|wrong|right|answer|because|since|so|not|is|are|was)\b"
    r"|正确|错|对|不|[✓✔✅☑←]",
    re.IGNORECASE,
)


def without_copied_options(text: str, options: Sequence[str]) -> str:
    """The text with every copied list of options blanked; offsets stay.

    A list has options in their order from the first on, at least two, each with its letter, with
    nothing said about them; or the texts of all; or letters alone.
    """
    letters = CHOICE_LETTERS[: len(options) or None]
    known = len(options) >= MIN_COPIED and all(
        option.strip() and len(option) <= MAX_OPTION_CHARACTERS for option in options
    )
    if known:
        texts = [r"\s+".join(map(re.escape, o.strip().rstrip(".").split())) for o in options]
        lettered = [
            re.compile(
                rf"(?<![A-Za-z0-9])[*_(\[]{{0,9}}{letter}(?:[*_)\].:、,]+\s*|\s+){text}", re.I
            )
            for letter, text in zip(letters, texts, strict=False)
        ]
        text = _without_runs(text, lettered, _BETWEEN, _ENDS, MIN_COPIED)
        bare = [re.compile(rf"(?<![^\W_]){one}(?![^\W_])", re.IGNORECASE) for one in texts]
        text = _without_runs(text, bare, _BETWEEN, _ENDS, len(options))
    elif not options:
        text = _without_unknown_list(text)
    single = [re.compile(rf"(?<![\w'’])[(\[*]{{0,9}}{letter}(?![\w'’])") for letter in letters]
    fewest = min(len(letters), MIN_LETTERS)
    return _without_runs(text, single, _BETWEEN_LETTERS, _LETTERS_END, fewest)


def _without_runs(
    text: str,
    items: Sequence[re.Pattern[str]],
    between: re.Pattern[str],
    ending: re.Pattern[str],
    fewest: int,
) -> str:
    position = 0
    while first := items[0].search(text, position):
        ends = [first.end()]
        for item in items[1:]:
            gap = between.match(text, ends[-1])
            following = item.match(text, gap.end()) if gap else None
            if following is None:
                break
            ends.append(following.end())
        if ending.match(text, ends[-1]) is None:
            ends.pop()
        position = ends[-1] if ends else first.end()
        if len(ends) >= fewest:
            text = text[: first.start()] + " " * (position - first.start()) + text[position:]
    return text


def _without_unknown_list(text: str) -> str:
    """Without "A. …", "B. …", on lines or in a row, if that is how the text ends."""
    items = list(_ITEM.finditer(text))
    ends = [item.start() for item in items[1:]] + [len(text)]
    if (
        len(items) < MIN_COPIED
        or "".join(i["letter"] for i in items) != CHOICE_LETTERS[: len(items)]
    ):
        return text
    said = [text[item.end() : end] for item, end in zip(items, ends, strict=True)]
    if any("\n" in one.strip() or len(one) > 80 or _VERDICT.search(one) for one in said):
        return text
    return text[: items[0].start()] + " " * (len(text) - items[0].start())
