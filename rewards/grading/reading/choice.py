"""Multiple choice: which option does an answer name?

The letter governs: "(C) 12 cm" means C whatever option C says. Without a letter, the text must
match exactly one option.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ....problems.types import CHOICE_LETTERS
from .normalization import narrow, plain, unwrap_box, words
from .number import parse_number
from .units import split_unit, units_agree

_TYPESETTING = re.compile(r"\$|\*\*|\\[()\[\]]|\\(?:text|mathrm|textbf|mathbf)(?=\s*\{)|[{}`]")
_INTRODUCTION = re.compile(
    r"^(?:the\s+)?(?:option|choice|选项|选)\s*(?=\(?[A-Za-z]\b)", re.IGNORECASE
)
_LETTER_ALONE = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\]]?\s*[.:。,]?")
_LETTER_THEN_TEXT = re.compile(
    r"(?:[(\[]\s*([A-Z])\s*[)\]]|([A-Z])\s*[)\]]|([A-Z])\s*[.:、](?!\d))\s*(.+)", re.DOTALL
)
_LETTER_SPACE_TEXT = re.compile(r"([A-Z])\s+\(?(.+?)\)?\.?", re.DOTALL)
_FRACTION = re.compile(r"^\\frac\{([^{}]*)\}\{([^{}]*)\}$")
_DENIAL = re.compile(
    r"[\s).\]:*_]*(?:is|are|was|were|seems|looks|must be|cannot be|can['’]t be|isn['’]t|excluded)\b"
    r"(?:\s+(?!only\b)\w+)?\s*"
    r"(?<!\w)(?:incorrect|wrong|false|not(?!\s+only)|excluded|impossible|ruled\s+out|eliminated)\b"
    r"|[\s).\]:*_]*(?:cannot|can['’]t|isn['’]t|aren['’]t|wasn['’]t|doesn['’]t|does\s+not|fails|excluded"
    r"|(?:是|都|均|项|选项)*(?:错|不|有误|排除|应排除|可排除))"
)
# Where the options are not known, the late letters are units and variables more often ("12 N").
_FURTHER_LETTER = re.compile(
    r"(?<![A-Za-z0-9'])([A-J](?![A-Za-z0-9'])|[K-Z](?=\)))|\b(?:or|and)\s+\(?([K-Z])\b"
)


def grade_choice(prediction: str, answer: str, options: Sequence[str]) -> bool:
    """Whether the prediction names the option `answer` (a letter) and no other.

    Raises `ValueError` if the gold answer is not an option letter.
    """
    if len(answer.strip()) != 1 or answer.strip() not in CHOICE_LETTERS:
        raise ValueError(f"gold answer {answer!r} is not an option letter")
    return named_letter(prediction, options) == answer.strip()


def named_letter(prediction: str, options: Sequence[str] = ()) -> str | None:
    """The single letter that an answer names, by letter or by option text; None if unclear."""
    text = _INTRODUCTION.sub("", _bare(unwrap_box(narrow(prediction))))
    letters = CHOICE_LETTERS[: len(options) or None]
    if (match := _LETTER_ALONE.fullmatch(text)) and match[1].upper() in letters:
        return match[1].upper()
    if match := _LETTER_THEN_TEXT.fullmatch(text):
        letter = match[1] or match[2] or match[3]
        if letter in letters:
            return letter if _adds_no_letter(letter, match[4], options) else None
    matching = _options_that_say(prediction, options)
    if len(matching) == 1:
        return matching[0]
    # "A cat" may be an article, so a letter and a bare space count only with that option's text.
    if (match := _LETTER_SPACE_TEXT.fullmatch(text)) and options:
        return match[1] if match[1] in _options_that_say(match[2], options) else None
    return None


def _bare(text: str) -> str:
    return _TYPESETTING.sub("", text).strip()


def is_denied(rest: str) -> bool:
    """Whether the text after a letter takes it back: "(B) is wrong", "B is not the answer"."""
    return _DENIAL.match(rest) is not None


def _adds_no_letter(letter: str, rest: str, options: Sequence[str]) -> bool:
    if is_denied(rest):
        return False
    if letter in _options_that_say(rest, options):
        return True
    if options:
        letters = CHOICE_LETTERS[: len(options)]
        further = re.findall(rf"(?<![A-Za-z0-9'])([{letters}])(?![A-Za-z0-9'])", rest)
    else:
        further = [match[1] or match[2] for match in _FURTHER_LETTER.finditer(rest)]
    return set(further) <= {letter}


def _options_that_say(text: str, options: Sequence[str]) -> list[str]:
    exact = [
        letter
        for letter, option in zip(CHOICE_LETTERS, options, strict=False)
        if _text_form(option) == _text_form(text)
    ]
    if exact:
        return exact
    return [
        letter
        for letter, option in zip(CHOICE_LETTERS, options, strict=False)
        if _same_quantity(option, text)
    ]


def _text_form(text: str) -> str:
    """Option text for comparison; "6:π" and its fraction are one form."""
    return words(_bare(_FRACTION.sub(r"\1:\2", plain(text))))


def _same_quantity(option: str, text: str) -> bool:
    """Option "12 cm" and answer "12"; both must be plain numbers."""
    option_value, option_unit = split_unit(option)
    value, unit = split_unit(text)
    option_number, number = parse_number(plain(option_value)), parse_number(plain(value))
    if option_number is None or number is None or not units_agree(option_unit, unit):
        return False
    return option_number.accepts(number)
