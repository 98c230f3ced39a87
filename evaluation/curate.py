"""`kvl-rl curate`: which problems are worth training on, after Kimi k1.5 §2.1.

Whether a problem can be guessed without thinking is found out by leaving no room to think: the
prompt ids end with an empty thinking section of the assistant's turn (`EMPTY_THINKING`, given to
the rollout worker as `SamplingSettings.response_prefix`), so that the first token sampled is
already part of the answer. A handful of tokens is allowed. Asking for an immediate answer in the
question is not enough for a model that was trained to think always.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..configs.common import ProblemSource
from ..configs.errors import ConfigError
from ..configs.rl import GraderConfig
from ..configs.rollout import RolloutConfig
from ..configs.system.files import write_atomically, write_json
from ..kimi_vl_model.soundness import check_checkpoint
from ..problems.jsonl import records_of
from ..problems.loading import load_problems
from ..problems.prompt import THINK_CLOSE, THINK_OPEN
from ..problems.types import AnswerType, Problem
from ..rewards.gold_fault import gold_fault
from ..rewards.grader import Grader
from ..rewards.grading.judge import resolved_type
from ..rewards.types import GradeRequest, Outcome
from ..rollouts.types import SamplingSettings
from .grade_file import encoded
from .records_file import RecordsFile
from .sampling import Plan, sample_missing

# The blank line keeps the two markers apart, so that they are the tokens of a filled section.
EMPTY_THINKING = f"{THINK_OPEN}\n\n{THINK_CLOSE}"
GUESS_TOKENS = 64
GUESS_TEMPERATURE = 1.0
# What a guess is graded behind: the strict grader accepts no empty thinking section. One that opens
# a section after all is no guess and is not right.
SOME_THINKING = f"{THINK_OPEN}-{THINK_CLOSE}"

# In the order in which they are looked for: a problem goes for the first that applies.
REASONS = {
    "unusable": "cannot be read, or its image cannot be decoded",
    "proof": "asks for a proof, which no rule can verify",
    "true_false": "true or false, yes or no: half of all guesses are right",
    "unparseable_answer": "no answer can meet the gold answer, not even itself",
    "duplicate": "same question, options, images and answer as one before it",
    "always_right": "its pass rate is 1: nothing to learn",
    "not_sampled": "could not be sampled when guessing",
    "guessed": "right without thinking in one of the tries",
}

_POLAR_OPTIONS = frozenset({"true", "false", "yes", "no", "对", "错", "正确", "错误", "是", "否"})
# As an order at the start of a sentence, not "the theorem used to prove that".
_PROOF = re.compile(
    r"(?:^|[.!?;:,，。；：！？\n]|\b(?:and|then|please|hence))\s*"
    r"(?:(?:dis)?prove\b|show that\b|[试请求]?证明|求证)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A problem that was left out: `reason` is a key of REASONS, `detail` says more."""

    id: str
    reason: str
    detail: str = ""


def curate_file(
    source: Path,
    out: Path,
    *,
    checkpoint: Path | None,
    tries: int,
    rollout: RolloutConfig,
    grading: GraderConfig,
) -> None:
    """Write the problems of `source` worth training on to `out`, with all their columns, and to
    `OUT.json` what went and why. Problems are guessed at only with a `checkpoint`.

    `out` appears only when it is complete. Until then `OUT.guesses.jsonl` holds what is known of
    the problems guessed at, and the same command again guesses at the others.

    Raises ConfigError if nothing is left or the guesses are of another command, KVLError for
    problems or a checkpoint that cannot be used.
    """
    console = Console()
    if out.suffix != ".jsonl" or (out.exists() and source.exists() and out.samefile(source)):
        raise ConfigError(f"--out {out}: must be a .jsonl file other than the input")
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    problems, skipped = load_problems(ProblemSource(path=source))
    dropped = [Dropped(one.id, "unusable", one.reason) for one in skipped]
    guesses = None
    with Grader(grading.workers, grading.timeout_seconds) as grader:
        kept, by_rule = drop_by_rule(problems, grader)
    dropped += by_rule
    if checkpoint is not None and kept:
        how = SamplingSettings(
            tries,
            GUESS_TEMPERATURE,
            min(GUESS_TOKENS, rollout.max_response_tokens),
            seed=0,
            response_prefix=EMPTY_THINKING,
        )
        plan = Plan(checkpoint, source, (how,), rollout, grading, given=SOME_THINKING)
        guesses = RecordsFile(out.with_suffix(".guesses.jsonl"), plan.identity())
        kept, guessed = drop_guessed(plan, kept, guesses)
        dropped += guessed
    counts = Counter(one.reason for one in dropped)
    report = {
        "problems": str(source.absolute()),
        "checkpoint": None if checkpoint is None else str(checkpoint.absolute()),
        "tries": 0 if checkpoint is None else tries,
        "read": len(problems) + len(skipped),
        "kept": len(kept),
        "dropped": {reason: counts[reason] for reason in REASONS if counts[reason]},
        "reasons": {reason: REASONS[reason] for reason in REASONS if counts[reason]},
        "rows": [{"id": d.id, "reason": d.reason, "detail": d.detail} for d in dropped],
    }
    write_json(out.with_suffix(".json"), report)
    console.print(_table(counts, len(kept), guessed_at=checkpoint is not None))
    if not kept:
        raise ConfigError(f"{source}: no problem is left; {out.with_suffix('.json')} says why")
    write_atomically(out, b"".join(map(encoded, records_of(kept, source, out))))
    if guesses is not None:
        guesses.remove()
    console.print(f"{out}\n{out.with_suffix('.json')}", soft_wrap=True, markup=False)


def drop_by_rule(
    problems: Sequence[Problem], grader: Grader
) -> tuple[list[Problem], list[Dropped]]:
    """(kept, dropped) by everything that needs no model."""
    mismatches = unparseable(problems, grader)
    seen: dict[str, str] = {}
    kept: list[Problem] = []
    dropped: list[Dropped] = []
    for problem in problems:
        if asks_for_proof(problem):
            dropped.append(Dropped(problem.id, "proof"))
        elif is_true_false(problem):
            dropped.append(Dropped(problem.id, "true_false"))
        elif problem.id in mismatches:
            dropped.append(Dropped(problem.id, "unparseable_answer", mismatches[problem.id]))
        elif (first := seen.setdefault(content(problem), problem.id)) != problem.id:
            dropped.append(Dropped(problem.id, "duplicate", f"of {first}"))
        elif problem.pass_rate == 1:
            dropped.append(Dropped(problem.id, "always_right"))
        else:
            kept.append(problem)
    return kept, dropped


def asks_for_proof(problem: Problem) -> bool:
    """A question that orders a proof and is open, so that the proof would be its answer."""
    gradable = (AnswerType.CHOICE, AnswerType.MULTI_SELECT, AnswerType.NUMBER, AnswerType.LIST)
    return problem.answer_type not in gradable and bool(_PROOF.search(problem.question))


def is_true_false(problem: Problem) -> bool:
    """By its type, by a gold answer such as "yes", or by options that are only true and false."""
    if problem.options:
        return {option.strip(" .。").casefold() for option in problem.options} <= _POLAR_OPTIONS
    shown = GradeRequest("", problem.gold, problem.answer_type)
    return resolved_type(shown) is AnswerType.BOOL


def unparseable(problems: Sequence[Problem], grader: Grader) -> dict[str, str]:
    """By id why a gold answer cannot be met, or what the grader says of it as a response, where
    that is not "correct".

    Introduced or boxed: a problem can be earned if one accepted answer passes in one of the forms.
    """
    faults = {one.id: fault for one in problems if (fault := gold_fault(one)) is not None}
    rejected = {problem.id: "" for problem in problems if problem.id not in faults}
    for form in ("Answer: {}", r"\boxed{{{}}}"):
        left = [problem for problem in problems if problem.id in rejected]
        said = [(problem, answer) for problem in left for answer in problem.accepted]
        verdicts = grader.grade([_request(one, form.format(answer)) for one, answer in said])
        for (problem, answer), verdict in zip(said, verdicts, strict=True):
            if verdict.outcome is Outcome.CORRECT:
                rejected.pop(problem.id, None)
            elif problem.id in rejected:
                why = f": {verdict.reason}" if verdict.reason else ""
                rejected[problem.id] = f"{answer[:80]!r} is {verdict.outcome.value}{why}"
    return rejected | faults


def content(problem: Problem) -> str:
    """Equal for problems with the same question, options, answer and image bytes, in any file."""
    digest = hashlib.sha256()
    accepted = "\n".join(answer.strip() for answer in problem.accepted)
    texts = (problem.question.strip(), *problem.options, accepted)
    images = (image.read() for image in problem.images)
    for part in (*(text.encode("utf-8", "surrogatepass") for text in texts), *images):
        # Lengths in between, so that no two lists of parts read the same.
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def drop_guessed(
    plan: Plan, problems: Sequence[Problem], guesses: RecordsFile
) -> tuple[list[Problem], list[Dropped]]:
    """(kept, dropped) after guesses at each problem, of which `guesses` may hold some already."""
    failures = sample_missing(plan, problems, guesses, "guessing", "guessed at")
    failed = {failure.problem_id: failure.reason for failure in failures}
    tries = plan.passes[0].samples
    kept: list[Problem] = []
    dropped: list[Dropped] = []
    for problem in problems:
        responses = guesses.responses(problem)
        if responses is None:
            dropped.append(Dropped(problem.id, "not_sampled", failed.get(problem.id, "")))
        elif right := sum(one.accuracy > 0 for one in responses):
            dropped.append(Dropped(problem.id, "guessed", f"{right} of {tries} tries"))
        else:
            kept.append(problem)
    return kept, dropped


def _request(problem: Problem, answer: str) -> GradeRequest:
    """`answer` as what follows some thinking."""
    return GradeRequest.of_problem(problem, SOME_THINKING + answer)


def _table(counts: Counter[str], kept: int, *, guessed_at: bool) -> Table:
    note = None if guessed_at else "nothing was guessed at: that needs --checkpoint"
    table = Table("dropped", "problems", "why", caption=note)
    table.columns[1].justify = "right"
    for reason, why in REASONS.items():
        if counts[reason]:
            table.add_row(reason, str(counts[reason]), why)
    table.add_section()
    table.add_row("kept", str(kept), "")
    return table
