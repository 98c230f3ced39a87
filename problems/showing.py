"""`kvl-rl problems`: what is recognised in files, and the problems as the model will see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from ..configs.common import ProblemSource
from .loading import load_problems
from .prompt import prompt_parts
from .reading import problem_files
from .types import Problem, ProblemError, Skipped, one_line

_EXAMPLES, _REASONS = 3, 20
_LONGEST = 2000  # characters of an example that are shown


def show_problems(path: Path, columns: Mapping[str, str]) -> None:
    """Print the layouts, counts, answer types, what is skipped and why, and three examples.

    Raises `ProblemError` if nothing is recognised or usable.
    """
    console = Console()
    layouts = Counter(file.layout_name for file in problem_files(path, columns))
    for layout, files in layouts.items():
        console.out(f"layout: {layout}" + (f" ({files} files)" if files > 1 else ""))
    problems, skipped = load_problems(ProblemSource(path=path, columns=dict(columns)))
    console.out("\n".join(summary(problems, skipped)), highlight=False)
    for problem in problems[:_EXAMPLES]:
        console.out("\n" + "\n".join(example(problem)), highlight=False)


def summary(problems: Sequence[Problem], skipped: Sequence[Skipped]) -> list[str]:
    """The lines that count problems by answer type and pictures, and name what was skipped."""
    kinds = Counter(str(problem.answer_type) for problem in problems)
    pictures = Counter(len(problem.images) for problem in problems)
    lines = [
        f"problems: {len(problems)}, skipped: {len(skipped)}",
        "answer types: " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()),
        "images: " + ", ".join(f"{count} with {many}" for many, count in sorted(pictures.items())),
    ]
    lines += [
        f"skipped {one_line(one.id)}: {one_line(one.reason, 300)}" for one in skipped[:_REASONS]
    ]
    if len(skipped) > _REASONS:
        lines.append(f"… and {len(skipped) - _REASONS} more")
    return lines


def example(problem: Problem) -> list[str]:
    """The prompt with pictures as `[image 640×480]`, and the gold answer below it."""
    text = "".join(
        part if isinstance(part, str) else f"[image {_size(part.open(pixels=False).size)}]"
        for part in prompt_parts(problem)
    )
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    shown = [one_line(line, _LONGEST) for line in text.splitlines()]
    golds = one_line(" | ".join(problem.accepted))
    return [f"── {problem.id}", *shown, f"gold ({problem.answer_type}): {golds}"]


def columns_from(pairs: Sequence[str]) -> dict[str, str]:
    """`field=column` of a command line. Raises `ProblemError` for anything else."""
    columns = {}
    for pair in pairs:
        field, equals, column = pair.partition("=")
        if not (field and equals and column):
            raise ProblemError(f"--columns {pair}: must be FIELD=COLUMN, as question=q")
        columns[field] = column
    return columns


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
