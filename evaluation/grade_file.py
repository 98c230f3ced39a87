"""`kvl-rl grade`: verdicts for a file of answers, and `kvl-rl rewards`: what can be configured."""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..configs.errors import ConfigError
from ..configs.system.files import atomic_file
from ..problems.types import CHOICE_LETTERS, AnswerType
from ..rewards.grader import Grader
from ..rewards.grading.gold import BadGold, check_type, gold_letter
from ..rewards.plugins.plugin_process import describe
from ..rewards.plugins.plugin_worker import NotLoaded
from ..rewards.plugins.registry import plugins
from ..rewards.types import GradeRequest, Strictness, Verdict

ROWS_AT_ONCE = 256
SHOWN_BAD_ROWS = 20

_LISTED_TYPES = (AnswerType.LIST, AnswerType.MULTI_SELECT)
_LETTERED = re.compile(r"^\s*[(\[]?([A-Z])[)\].:、]\s*(.+)$", re.DOTALL)


class BadRow(ValueError):
    """A row that cannot be graded; the message names the field and what is wrong."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the input with the request it makes."""

    fields: dict[str, Any]
    request: GradeRequest


def grade_file(
    source: Path, out: Path, strictness: Strictness, workers: int, timeout: float
) -> None:
    """Grade every row of `source` into `out`, which appears only when it is complete.

    Raises ConfigError if a file cannot be read or written, or if no row can be graded.
    """
    console = Console()
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; name a file")
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError(f"--out {out}: is the input file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    tally = Tally()
    started = time.monotonic()
    with atomic_file(out) as written:
        with (
            open_lines(source) as lines,
            Grader(workers, timeout, strictness) as grader,
            Progress(
                TextColumn("grading {task.fields[rows]} rows"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            ) as progress,
        ):
            bar = progress.add_task("", total=max(1, source.stat().st_size), rows=0)
            for chunk in chunks(lines, tally, console):
                verdicts = grader.grade([row.request for row in chunk])
                for row, verdict in zip(chunk, verdicts, strict=True):
                    written.write(encoded({**row.fields, **verdict_fields(verdict)}))
                    tally.count(row.request, verdict)
                progress.update(bar, completed=lines.tell(), rows=tally.rows)
        if not tally.rows:
            raise ConfigError(f"{source}: no row could be graded ({tally.bad} bad)")
    console.print(tally.table(strictness, time.monotonic() - started))
    console.print(str(out), soft_wrap=True)


def open_lines(source: Path):
    try:
        return source.open("rb")
    except OSError as error:
        raise ConfigError(f"{source}: cannot be read ({error.strerror or error})") from None


def chunks(lines, tally: Tally, console: Console) -> Iterator[list[Row]]:
    """Rows in groups; a bad line is reported with its number and left out."""
    chunk: list[Row] = []
    # Not `for line in lines`: that forbids asking for the position.
    for number, line in enumerate(iter(lines.readline, b""), start=1):
        if not line.strip():
            continue
        try:
            chunk.append(row_of(line))
        except BadRow as error:
            tally.bad += 1
            if tally.bad <= SHOWN_BAD_ROWS:
                console.print(f"line {number}: {error}; skipped", markup=False, soft_wrap=True)
            elif tally.bad == SHOWN_BAD_ROWS + 1:
                console.print("further bad rows are only counted")
        if len(chunk) == ROWS_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def row_of(line: bytes) -> Row:
    """The row of one JSON line. Raises BadRow."""
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise BadRow(f"not JSON ({str(error)[:120]})") from None
    if not isinstance(fields, dict):
        raise BadRow(f"a row is an object, not {type(fields).__name__}")
    response = fields.get("response")
    if not isinstance(response, str):
        raise BadRow(f"'response' should be text, is {_kind(response)}")
    options = options_of(fields.get("options"))
    gold = gold_of(fields)
    kind = answer_type_of(fields, options)
    if kind is AnswerType.CHOICE and gold_letter(gold) is None:
        gold = letter_of_text(gold, options)
    precision = fields.get("precision")
    if isinstance(precision, float) and precision.is_integer():
        precision = int(precision)
    if precision is not None and (type(precision) is not int or not 0 <= precision <= 20):
        raise BadRow(f"'precision' should be a number of decimals, is {precision!r}")
    question = fields.get("question")
    question = question if isinstance(question, str) else ""
    request = GradeRequest(response, gold, kind, options, precision, question)
    try:
        check_type(request)
    except BadGold as error:
        raise BadRow(str(error)) from None
    return Row(fields, request)


def gold_of(fields: Mapping[str, Any]) -> str:
    for name in ("answer", "gold"):
        value = fields.get(name)
        if isinstance(value, float) and not math.isfinite(value):
            raise BadRow(f"{name!r} is {value}, which is no answer")
        if isinstance(value, bool | int | float):
            return str(value)
        if value in ("", []) or (isinstance(value, str) and not value.strip()):
            raise BadRow(f"{name!r} is empty")
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            # The items of a list answer; for other types spellings, of which the first is the gold.
            items = value if fields.get("answer_type") in _LISTED_TYPES else value[:1]
            return ", ".join(map(str, items))
        if value is not None:
            raise BadRow(f"{name!r} should be text or a number, is {_kind(value)}")
    raise BadRow("'answer' (or 'gold') is missing")


def answer_type_of(fields: Mapping[str, Any], options: tuple[str, ...]) -> AnswerType:
    kind = fields.get("answer_type")
    if kind is None:
        return AnswerType.CHOICE if options else AnswerType.OPEN
    try:
        return AnswerType(kind)
    except ValueError:
        raise BadRow(f"answer_type {kind!r} is none of {', '.join(AnswerType)}") from None


def options_of(value: Any) -> tuple[str, ...]:
    """Option texts in the order of their letters, without letters of their own."""
    if value is None:
        return ()
    if isinstance(value, Mapping):
        letters = [str(letter).strip().strip("().").upper() for letter in value]
        if not set(letters) <= set(CHOICE_LETTERS) or len(set(letters)) != len(letters):
            raise BadRow(f"'options' should be keyed by letters A to Z, has {list(value)}")
        texts = dict(zip(letters, map(str, value.values()), strict=True))
        last = max(map(CHOICE_LETTERS.index, letters), default=-1)
        return tuple(texts.get(letter, "") for letter in CHOICE_LETTERS[: last + 1])
    if not isinstance(value, list) or not all(isinstance(o, str | int | float) for o in value):
        raise BadRow("'options' should be a list of texts or a map from letters to texts")
    if len(value) > len(CHOICE_LETTERS):
        raise BadRow(f"{len(value)} options; at most {len(CHOICE_LETTERS)} can be graded")
    texts = tuple(map(str, value))
    lettered = [_LETTERED.match(text) for text in texts]
    if texts and [match and match[1] for match in lettered] == list(CHOICE_LETTERS[: len(texts)]):
        return tuple(match[2] for match in lettered if match)
    return texts


def letter_of_text(gold: str, options: tuple[str, ...]) -> str:
    """The letter of a gold answer that is one option's text; otherwise the gold as it is."""
    same = [i for i, text in enumerate(options) if text.strip() == gold.strip()]
    return CHOICE_LETTERS[same[0]] if len(same) == 1 else gold


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """What is written into a row; an ungraded one has no reward, which is not a reward of 0."""
    fields = {
        "verdict": verdict.outcome.value,
        "extracted": verdict.extracted,
        "reward": verdict.accuracy if verdict.gradable else None,
        "milliseconds": round(verdict.milliseconds, 3),
    }
    return fields | ({"reason": verdict.reason} if verdict.reason else {})


def encoded(fields: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, as broken tokenizers write them
        return json.dumps(fields).encode() + b"\n"


class Tally:
    """What the summary says."""

    def __init__(self) -> None:
        self.rows = 0
        self.bad = 0
        self._outcomes: dict[str, Counter[str]] = {}
        self._milliseconds: list[float] = []

    def count(self, request: GradeRequest, verdict: Verdict) -> None:
        self.rows += 1
        self._outcomes.setdefault(request.answer_type.value, Counter())[verdict.outcome.value] += 1
        self._milliseconds.append(verdict.milliseconds)

    def table(self, strictness: Strictness, seconds: float) -> Table:
        times = sorted(self._milliseconds)
        p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
        table = Table(
            title=f"{self.rows} rows, policy {strictness}",
            box=SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
            caption=f"{self.rows / max(seconds, 1e-9):.0f} rows/s, p99 {p99:.1f} ms"
            + (f", {self.bad} bad rows skipped" if self.bad else ""),
        )
        outcomes = ("correct", "incorrect", "no_answer", "invalid", "timeout")
        short = ("correct", "incorrect", "none", "invalid", "timeout")
        for column in ("type", "rows", *short, "accuracy"):
            table.add_column(column, justify="left" if column == "type" else "right", no_wrap=True)
        for name, counts in sorted(self._outcomes.items()):
            table.add_row(name, *_cells(counts, outcomes))
        table.add_section()
        total = sum(self._outcomes.values(), Counter())
        table.add_row("all", *_cells(total, outcomes))
        return table


def _cells(counts: Counter[str], outcomes: tuple[str, ...]) -> list[str]:
    graded = counts.total() - counts["invalid"] - counts["timeout"]
    accuracy = f"{100 * counts['correct'] / graded:.1f} %" if graded else "–"
    return [str(counts.total()), *(str(counts[outcome]) for outcome in outcomes), accuracy]


def _kind(value: Any) -> str:
    return "missing" if value is None else type(value).__name__


def list_rewards() -> None:
    """Every reward that a config can name, with its settings and where it comes from."""
    from ..rewards.builtin import BUILTIN

    table = Table("type", "settings", "from", "what it gives")
    for name in BUILTIN:
        table.add_row(*_reward_cells(name, "built in"))
    for point in plugins():
        origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        table.add_row(*_reward_cells(point.name, origin))
    console = Console()
    console.print(table)
    console.print("any other: type: package.module:Name or ./file.py:Name", markup=False)


def _reward_cells(name: str, origin: str) -> tuple[str, str, str, str]:
    found = describe(name)
    if isinstance(found, NotLoaded):
        return name, "–", origin, found.reason
    return name, "\n".join(found.settings) or "–", origin, found.description
