"""What the model reads and what a demonstration writes."""

from __future__ import annotations

from .types import CHOICE_LETTERS, PLACEHOLDER, ImageSource, Problem, ProblemError

THINK_OPEN, THINK_CLOSE = "◁think▷", "◁/think▷"


def prompt_parts(problem: Problem) -> tuple[str | ImageSource, ...]:
    """The user turn: question, then options as "A. …" lines, with images where they are named.

    Example: `("Which is round?\\n", image, "\\nA. ", image, "\\nB. ", image)`. An image that is
    named again is only mentioned ("image 1"): its tokens are the dearest part of a prompt.
    """
    lines = [problem.question]
    if not _are_only_letters(problem.options):
        lines += [f"{CHOICE_LETTERS[i]}. {option}" for i, option in enumerate(problem.options)]
    # Splitting at a group gives text and placeholder numbers in turn.
    pieces = PLACEHOLDER.split("\n".join(lines))
    parts: list[str | ImageSource] = []
    shown: set[int] = set()
    text = pieces[0]
    for name, following in zip(pieces[1::2], pieces[2::2], strict=True):
        number = int(name)
        if number in shown:
            text += f"image {number}{following}"
            continue
        shown.add(number)
        parts += [text, problem.images[number - 1]]
        text = following
    return tuple(part for part in (*parts, text) if part)


def target_text(problem: Problem) -> str:
    """The demonstration to imitate: the thinking between its markers, then the answer.

    With a `conclusion` both are verbatim, to the last space: a policy's own words.
    Raises `ProblemError` if the problem has no solution or one that breaks the format.
    """
    solution, conclusion = problem.solution or "", problem.conclusion
    if not solution.strip():
        raise ProblemError(f"problem {problem.id}: no solution to learn from")
    for name, text in (("solution", solution), ("conclusion", conclusion or "")):
        if THINK_OPEN in text or THINK_CLOSE in text:
            raise ProblemError(f"problem {problem.id}: its {name} already holds a thinking marker")
    if conclusion is not None:
        return f"{THINK_OPEN}{solution}{THINK_CLOSE}{conclusion}"
    return f"{THINK_OPEN}{solution.strip()}{THINK_CLOSE}Answer: {problem.gold}"


def _are_only_letters(options: tuple[str, ...]) -> bool:
    """Whether the options say no more than A, (B) or C), because the figure shows the rest."""
    return [option.strip(" ().") for option in options] == list(CHOICE_LETTERS[: len(options)])
