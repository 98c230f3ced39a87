r"""One spelling for answers that differ only in how they are typed.

Nothing here changes meaning: letters, digits, signs and their order stay. Units, thousands
separators and hedges are decided elsewhere.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_CACHED_CHARACTERS = 300

_FULL_WIDTH = {0xFF01 + offset: 0x21 + offset for offset in range(0x5E)}
_CHARACTERS = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{EN DASH}": "-",
        "\N{HYPHEN}": "-",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{NO-BREAK SPACE}": " ",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "。": ".",
        "…": "...",
        "∶": ":",
        "\N{MULTIPLICATION SIGN}": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "∙": r"\cdot ",
        "÷": "/",
        "\N{FRACTION SLASH}": "/",
        "\N{DIVISION SLASH}": "/",
        "π": r"\pi ",
        "∞": r"\infty ",
        "\N{UNION}": r"\cup ",
        "±": r"\pm ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≈": r"\approx ",
        "°": r"^\circ",
        "℃": r"^\circC",
        "℉": r"^\circF",
        "\N{OHM SIGN}": r"\Omega ",
        "∅": r"\emptyset ",
        "⌀": r"\emptyset ",
        "≠": r"\ne ",
        "∩": r"\cap ",
        "∈": r"\in ",
        "≅": r"\cong ",
    }
    | {chr(0x2080 + digit): f"_{digit}" for digit in range(10)}  # x₁
    | {
        character: rf"\frac{{{top}}}{{{bottom}}}"
        for character, top, bottom in (
            *(("½", 1, 2), ("⅓", 1, 3), ("⅔", 2, 3), ("¼", 1, 4), ("¾", 3, 4), ("⅕", 1, 5)),
            *(("⅖", 2, 5), ("⅗", 3, 5), ("⅘", 4, 5), ("⅙", 1, 6), ("⅚", 5, 6), ("⅐", 1, 7)),
            *(("⅛", 1, 8), ("⅜", 3, 8), ("⅝", 5, 8), ("⅞", 7, 8), ("⅑", 1, 9), ("⅒", 1, 10)),
        )
    }
    | {
        letter: rf"\{name} "
        for letter, name in (
            *(("α", "alpha"), ("β", "beta"), ("γ", "gamma"), ("δ", "delta"), ("θ", "theta")),
            *(("λ", "lambda"), ("μ", "mu"), ("µ", "mu"), ("ρ", "rho"), ("σ", "sigma")),
            *(("τ", "tau"), ("φ", "phi"), ("ω", "omega"), ("Δ", "Delta"), ("Ω", "Omega")),
        )
    }
)
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx", strict=True))
_SUPERSCRIPT = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_SUBSCRIPT_DIGITS = str.maketrans({chr(0x2080 + digit): str(digit) for digit in range(10)})
_SMALL_FRACTION = re.compile(r"([⁰¹²³⁴-⁹]+)[/\N{FRACTION SLASH}]([₀-₉]+)")
_QUOTES = "\"'`\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
_BOXED = re.compile(r"^\\(?:boxed|fbox)\s*\{(.*)\}$", re.DOTALL)
_DELIMITERS = re.compile(
    r"(?<!\\)(?:\$|\\[()\[\]])|\\(?:left|right|displaystyle|limits)(?![A-Za-z])"
)
_SPACES = re.compile(r"(?<!\\)\\[,;:! ]|\\q?quad(?![A-Za-z])|(?<!\\)~|\s+")
_FONTS = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|textit|mathit|textrm|textsf|mathsf|rm|mbox|number"
    r"|operatorname)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
)


def _root(match: re.Match[str]) -> str:
    return rf"\sqrt[{3 if match[1] == '∛' else 4}]{{{match[2] or match[3]}}}"


def _square_root(match: re.Match[str]) -> str:
    return rf"\sqrt{{{match[1] or match[2]}}}"


def _exponent(match: re.Match[str]) -> str:
    sign = (match[1] or match[3] or "").replace("+", "")
    return f"^{{{sign}{match[2] or match[4] or match[6]}}}"


# Escaped twice on its way here: "\\\\frac" for "\\frac"; in a matrix it starts a row.
_ESCAPED_TWICE = re.compile(
    r"\\\\(?=(?:frac|sqrt|left|right|le|ge|pi|text|cdot|times|infty|cup)(?![A-Za-z]))"
)
_MATRIX = re.compile(r"(?<!\\)\\begin")
_REWRITES = (
    (re.compile(r"<=|≦"), r"\\le "),
    (re.compile(r">=|≧"), r"\\ge "),
    (re.compile(r"!="), r"\\ne "),
    (re.compile(r"\\(begin|end)\{[bB]matrix\}"), r"\\\1{pmatrix}"),
    (re.compile(r"[\[(]\s*\\begin\{array\}\s*\{[^{}]*\}"), r"\\begin{pmatrix}"),
    (re.compile(r"\\end\{array\}\s*[\])]"), r"\\end{pmatrix}"),
    (re.compile(r"\\[cdt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\degrees?(?![A-Za-z])"), r"^\\circ"),
    (re.compile(r"\\leq(?:slant)?(?![A-Za-z])"), r"\\le"),
    (re.compile(r"\\geq(?:slant)?(?![A-Za-z])"), r"\\ge"),
    (re.compile(r"√\s*(\d+|[A-Za-z])"), r"\\sqrt{\1}"),
    (re.compile(r"√\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"√\s*\{"), r"\\sqrt{"),
    (re.compile(r"([∛∜])\s*(?:(\d+|[A-Za-z])|\(([^()]*)\))"), _root),
    (re.compile(r"\\sqrt\s*(\d)"), r"\\sqrt{\1}"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac\s*(\d)\s*\{"), r"\\frac{\1}{"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"(?<![A-Za-z\\])sqrt\s*(?:\(([^()]*)\)|(\d+))"), _square_root),
    # "ln(2)", "sin x", "log_2 8": a function only where an argument follows.
    (
        re.compile(
            r"(?<![A-Za-z\\])(arc(?:sin|cos|tan)|(?:sin|cos|tan)h?|cot|sec|csc|ln|log|exp)"
            r"(?=\s*(?:[(^_\d]|\\(?:pi|sqrt|frac|theta|alpha|beta)(?![A-Za-z]))|\s[xyztn](?![A-Za-z]))"
        ),
        r"\\\1",
    ),
    (re.compile(r"\\mathrm(?![A-Za-z{])"), ""),
    (re.compile(r"\^\s*\{\s*\\circ\s*\}|(?:\{\s*\})?\^\s*\\circ(?![A-Za-z])"), r"^\\circ"),
    # What people mean by x^-1, 10**-4, 10^(-4) and 2^10; to LaTeX the exponent is one character.
    (re.compile(r"(?<=[\w)}])\s?\*\*\s?(?=[-(\d])"), "^"),
    (
        re.compile(r"\^\s*(?:\(\s*([-+]?)\s*(\w+)\s*\)|([-+])\s?(\d+|[A-Za-z])|()(\d{2,}))"),
        _exponent,
    ),
    (re.compile(r"\^\s*\{\s*([-+]?)\s*(\w+)\s*\}()()()()"), _exponent),
    (re.compile(r"(\^|_)\s*\{\s*(\w)\s*\}"), r"\1\2"),
    (re.compile(r"\^\\circ\s*(?=[CFK](?![A-Za-z]))"), r"^\\circ"),
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"^(?:\\?\{\s*\\?\}|(?:the )?empty set|空集)$"), r"\\emptyset"),
)
_MARKDOWN = re.compile(r"^(\*\*|\*|`|__)(.+)\1$", re.DOTALL)
# "32, 349" stays two numbers; any other space beside punctuation means nothing.
_GLUED_SPACE = re.compile(
    r"(?<![0-9A-Za-z,]) | (?![0-9A-Za-z])|(?<!\d,)(?<=,) |(?<=,) (?!\d{3}(?!\d))"
)
_TIGHT = re.compile(r"\\!\s*")
_COMMAND_SPACE = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])")


def _small_fraction(match: re.Match[str]) -> str:
    """¹⁄₃ as a fraction, not as a power and an index."""
    top = "".join(_SUPERSCRIPTS[digit] for digit in match[1])
    return rf"\frac{{{top}}}{{{match[2].translate(_SUBSCRIPT_DIGITS)}}}"


def _superscript(match: re.Match[str]) -> str:
    return f"^{{{''.join(_SUPERSCRIPTS[character] for character in match[0])}}}"


def narrow(text: str) -> str:
    """Full-width letters, digits and punctuation as ASCII, as Chinese answers mix them."""
    return text.translate(_FULL_WIDTH)


def unwrap_box(text: str) -> str:
    r"""`\boxed{X}` -> `X`, also when nested; any other text as it is."""
    text = text.strip()
    bare = _DELIMITERS.sub("", text).strip()
    while match := _BOXED.match(bare):
        text = bare = match[1].strip()
    return text


def plain(text: str) -> str:
    r"""Mathematical text without its typesetting: `$\dfrac12$.` -> `\frac{1}{2}`.

    Words stay apart from numbers ("5 cm") and so do two numbers ("5 6"), since joining them
    would make a different answer.
    """
    return _short(text) if len(text) <= MAX_CACHED_CHARACTERS else _plain(text)


# One comparison reads both of its sides several times, and the samples of a group share a gold.
@lru_cache(maxsize=4096)
def _short(text: str) -> str:
    return _plain(text)


def _plain(text: str) -> str:
    text = text.strip()
    while match := _MARKDOWN.match(text):
        text = match[2].strip()
    text = _SMALL_FRACTION.sub(_small_fraction, unwrap_box(narrow(text)))
    text = _SUPERSCRIPT.sub(_superscript, text).translate(_CHARACTERS)
    text = _DELIMITERS.sub("", text)
    text = _SPACES.sub(" ", _TIGHT.sub("", text))
    while _FONTS.search(text):
        text = _FONTS.sub(r" \1 ", text)
    if "\\\\" in text and not _MATRIX.search(text):
        text = _ESCAPED_TWICE.sub(r"\\", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = re.sub(r"\s+", " ", text).strip()
    text = _COMMAND_SPACE.sub(r"\1", _GLUED_SPACE.sub("", text))
    # Not of "0.333...", however often it is read.
    return text[:-1].strip() if text.endswith(".") and not text.endswith("..") else text


def comparable(text: str) -> str:
    """`plain` without any spaces but those between two numbers or two words."""
    text = plain(text)
    return re.sub(r"(?<=\d) (?=[A-Za-z])|(?<=[A-Za-z]) (?=\d)|(?<=,) ", "", text)


def words(text: str) -> str:
    """Text answers: case, quotes, runs of spaces and spaces beside punctuation do not matter."""
    return comparable(text).strip(_QUOTES).casefold()
