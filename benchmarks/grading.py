"""How often does the grader agree with people, and what does a hostile policy get past it?

    python benchmarks/grading.py --data ../shared/data

* `triples`: 4,281 real responses of dozens of models with their verdicts, policy eval; overall, by
  answer type, and for the half of the problems (by a hash of the problem's id) that nobody looked
  at while the rules were written. Beside math-verify's default on the same rows.
* `pairs`: gold and prediction of graders' own test tables; every disagreement is explained.
* `hostile`: the corpus of kvl.rewards.testing under both policies: verdicts, the slowest one,
  memory, and whether injected code ran.

Writes benchmarks/results/grading.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.testing.hostile_corpus import hostile_answers
from kvl.rewards.types import GradeRequest, Outcome, Strictness

RESULTS = Path(__file__).parent / "results" / "grading.json"
CHOICES = ("choice", "multi-select")
TIMEOUT_SECONDS = 2.0

# Why we disagree with a table, by the table's prediction; anything else would be a mistake.
EXPLANATIONS = {
    "so the number is 10 which is 1,000.99m²": "names two numbers; no rule says which one counts",
    "$x = 5+5+1 = 7 =11$": "a chain of equations that contradicts itself is no answer",
    r"$x = 5+5+1 = 1/3 \approx 11$": "a chain of equations that contradicts itself is no answer",
    "2": "2 is further from 2.0001 than half a unit of its last decimal",
}
LONG_EXPLANATIONS = {
    r"\quad \text{and} \quad \boxed{1}": "two boxes in another order than the gold's one box",
    "that solves the system is $(7, 6)$": "unbalanced dollar signs hide the pair in the last line",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    folder = arguments.data / "verify_dev"
    result = {
        "math_verify": version("math-verify"),
        "triples": triples(folder / "triples.jsonl", arguments.workers),
        "pairs": pairs(folder / "pairs.jsonl", arguments.workers),
        "hostile": hostile(arguments.workers),
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(text)
    print(RESULTS)


def triples(path: Path, workers: int) -> dict[str, Any]:
    rows = read(path)
    ours = [outcome is Outcome.CORRECT for outcome in graded(rows, workers)]
    theirs = [math_verify_accepts(row["gold"], row["response"]) for row in rows]
    groups: dict[str, list[int]] = {"all": [], "choices": [], "open-ended": []}
    groups |= {f"{half} half": [] for half in ("developed on", "held out")}
    for index, row in enumerate(rows):
        is_choice = row["answer_type"] in CHOICES
        half = "developed on" if is_developed_on(row) else "held out"
        for name in (
            "all",
            "choices" if is_choice else "open-ended",
            f"{half} half",
            f"{half} half, {'choices' if is_choice else 'open-ended'}",
            f"type {row['answer_type']}",
        ):
            groups.setdefault(name, []).append(index)
    return {
        name: {
            "rows": len(indices),
            "kvl": agreement([(ours[i], rows[i]["correct"]) for i in indices]),
            "math_verify_default": agreement([(theirs[i], rows[i]["correct"]) for i in indices]),
        }
        for name, indices in groups.items()
    }


def is_developed_on(row: dict[str, Any]) -> bool:
    return hashlib.sha256(row["problem_id"].encode()).digest()[0] % 2 == 1


def agreement(pairs: list[tuple[bool, bool]]) -> dict[str, Any]:
    """Share of equal verdicts; accepted wrong answers; refused right ones."""
    return {
        "agreement": round(sum(said == right for said, right in pairs) / len(pairs), 4),
        "false_positives": sum(said and not right for said, right in pairs),
        "false_negatives": sum(right and not said for said, right in pairs),
    }


def graded(rows: list[dict[str, Any]], workers: int) -> list[Outcome]:
    with Grader(workers, TIMEOUT_SECONDS, Strictness.EVAL) as grader:
        return [verdict.outcome for verdict in grader.grade(list(map(GradeRequest.of_row, rows)))]


def math_verify_accepts(gold: str, response: str) -> bool:
    from math_verify import parse, verify

    return bool(verify(parse(f"${gold}$"), parse(response)))


def pairs(path: Path, workers: int) -> dict[str, Any]:
    rows = read(path)
    outcomes = graded(
        [
            {
                "response": row["pred"],
                "gold": row["gold"],
                "answer_type": "expression",
                "options": (),
                "precision": row["options"].get("precision"),
            }
            for row in rows
        ],
        workers,
    )
    wrong = [
        row
        for row, outcome in zip(rows, outcomes, strict=True)
        if (outcome is Outcome.CORRECT) != row["equal"]
    ]
    return {
        "rows": len(rows),
        "agreement": round(1 - len(wrong) / len(rows), 4),
        "disagreements": [
            {
                "gold": row["gold"][-80:],
                "prediction": row["pred"][-120:],
                "table_says_equal": row["equal"],
                "why": explanation(row["pred"]),
            }
            for row in wrong
        ],
    }


def explanation(prediction: str) -> str:
    for part, why in LONG_EXPLANATIONS.items():
        if part in prediction:
            return why
    return EXPLANATIONS.get(prediction, "unexplained")


def hostile(workers: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder) / "executed"
        attacks = hostile_answers(str(marker))
        outcomes: Counter[str] = Counter()
        slowest = 0.0
        for policy in Strictness:
            with Grader(workers, TIMEOUT_SECONDS, policy) as grader:
                # The start of the workers is not part of a verdict.
                sane = GradeRequest(
                    "◁think▷x◁/think▷\\boxed{\\sqrt{12}}", r"2\sqrt{3}", AnswerType.EXPRESSION
                )
                grader.grade([sane])
                for attack in attacks:
                    if policy in attack.policies:
                        started = time.perf_counter()
                        (verdict,) = grader.grade([attack.request])
                        slowest = max(slowest, time.perf_counter() - started)
                        outcomes[verdict.outcome.value] += 1
                (after,) = grader.grade([sane])
        memory = max(
            resource.getrusage(who).ru_maxrss
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        return {
            "answers": len(attacks),
            "families": Counter(attack.family for attack in attacks),
            "verdicts": dict(outcomes),
            "false_positives": outcomes["correct"],
            "slowest_verdict_seconds": round(slowest, 3),
            "code_executed": marker.exists(),
            "pool_alive_afterwards": after.outcome is Outcome.CORRECT,
            "largest_process_mib": memory // 1024,
        }


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
