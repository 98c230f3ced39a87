"""How often is the grader wrong, by kind of answer, on rows it was not written for?

    python benchmarks/grading_blind.py --name after

Grades tests/data/grading_blind.jsonl, each row under its own policy. The rows were written and
labelled before any rule was changed ("before"), and are not changed with the rules.

Writes the numbers under `name` to benchmarks/results/grading_blind.json and keeps the others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.types import GradeRequest, Outcome, Strictness

ROWS = Path(__file__).parents[1] / "tests" / "data" / "grading_blind.jsonl"
RESULTS = Path(__file__).parent / "results" / "grading_blind.json"
TIMEOUT_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--name", default="after")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    result = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    result[arguments.name] = measured(rows, arguments.workers)
    text = json.dumps(result, indent=2, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    for name, group in result[arguments.name].items():
        print(
            f"{name:36} {group['rows']:4} rows, error rate {group['error_rate']:.3f}, "
            f"accepted {group['false_accepts']}, refused {group['false_refusals']}"
        )
    print(RESULTS)


def measured(rows: list[dict[str, Any]], workers: int) -> dict[str, Any]:
    """Errors of all rows, of each policy, and of each kind of answer."""
    outcomes: dict[str, Outcome] = {}
    for policy in Strictness:
        own = [row for row in rows if row["policy"] == policy.value]
        with Grader(workers, TIMEOUT_SECONDS, policy) as grader:
            verdicts = grader.grade([request(row) for row in own])
        outcomes |= {row["id"]: v.outcome for row, v in zip(own, verdicts, strict=True)}
    groups: dict[str, list[dict[str, Any]]] = {"all": rows}
    for row in rows:
        groups.setdefault(f"policy {row['policy']}", []).append(row)
    for row in rows:
        groups.setdefault(row["kind"], []).append(row)
    return {name: errors(group, outcomes) for name, group in groups.items()}


def request(row: dict[str, Any]) -> GradeRequest:
    kind, options = AnswerType(row["answer_type"]), tuple(row["options"])
    return GradeRequest(row["response"], row["answer"], kind, options)


def errors(rows: list[dict[str, Any]], outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """False accepts, false refusals (a row nobody could grade counts as refused), their share."""
    accepted = {row["id"] for row in rows if outcomes[row["id"]] is Outcome.CORRECT}
    right = {row["id"] for row in rows if row["correct"]}
    return {
        "rows": len(rows),
        "right": len(right),
        "false_accepts": len(accepted - right),
        "false_refusals": len(right - accepted),
        "error_rate": round(len(accepted ^ right) / len(rows), 4),
        "wrong_rows": sorted(accepted ^ right),
    }


if __name__ == "__main__":
    main()
