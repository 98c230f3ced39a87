"""How fast are answers graded, beside math-verify on the same 8,000-character responses?

    python benchmarks/grading_throughput.py --data ../shared/data

Two sets of responses, each a long reasoning and a final answer:

* `mixed`: gold answers and commitments of verify_dev/triples.jsonl, as they come. Measured in
  responses per CPU second, the grading process and its workers together, so that a second core is
  no advantage.
* `symbolic`: answers that only math-verify can decide, so that each goes through the killable pool.
  Measured in responses per second of wall clock with `--workers` processes.

math-verify runs in this process with its defaults on the same strings. Writes
benchmarks/results/grading_throughput.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.grading.reading.commitments import boxes
from kvl.rewards.types import GradeRequest, Outcome, Strictness

RESULTS = Path(__file__).parent / "results" / "grading_throughput.json"
CHARACTERS = 8_000
FILLER = (
    "Let me look at the figure again. We have $AB = 12$ and $\\angle ABC = 60^\\circ$, so "
    "by the law of cosines $AC^2 = AB^2 + BC^2 - 2 \\cdot AB \\cdot BC \\cos 60^\\circ$. Wait, is "
    "that right? If $BC = 9$ then $AC^2 = 144 + 81 - 108 = 117$, hence $AC = 3\\sqrt{13}$. Check: "
    "the answer must be less than $AB + BC = 21$, which holds. "
)


def main() -> None:
    arguments = parse_arguments()
    mixed = mixed_requests(arguments.data, arguments.count)
    symbolic = symbolic_requests(arguments.count)
    warm_up()
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "math_verify": version("math-verify"),
        "characters": CHARACTERS,
        "mixed": compare(mixed, workers=1),
        "symbolic": compare(symbolic, workers=arguments.workers),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    print(RESULTS)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=1000, help="responses in each set")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def compare(requests: list[GradeRequest], workers: int) -> dict[str, Any]:
    """Ours and math-verify's on the same requests, one after the other."""
    ours = measure_grader(requests, workers)
    theirs = measure_math_verify(requests)
    return {
        "responses": len(requests),
        "kvl": ours,
        "math_verify": theirs,
        "times_per_cpu_second": round(ours["per_cpu_second"] / theirs["per_cpu_second"], 2),
    }


def measure_grader(requests: list[GradeRequest], workers: int) -> dict[str, Any]:
    with Grader(workers, timeout_seconds=2.0, policy=Strictness.RL) as grader:
        # Workers are running before the clock starts, as they are in training.
        grader.grade(symbolic_requests(8 * workers))
        before, started = cpu_seconds(), time.perf_counter()
        verdicts = grader.grade(requests)
        wall, cpu = time.perf_counter() - started, cpu_seconds() - before
    times = sorted(verdict.milliseconds for verdict in verdicts)
    return {
        "workers": workers,
        "per_second": round(len(requests) / wall, 1),
        "per_cpu_second": round(len(requests) / cpu, 1),
        "p50_milliseconds": round(times[len(times) // 2], 2),
        "p99_milliseconds": round(times[int(0.99 * len(times))], 2),
        "max_milliseconds": round(times[-1], 2),
        "correct": sum(verdict.outcome is Outcome.CORRECT for verdict in verdicts),
        "ungraded": sum(not verdict.gradable for verdict in verdicts),
    }


def measure_math_verify(requests: list[GradeRequest]) -> dict[str, Any]:
    from math_verify import parse, verify

    before, started = cpu_seconds(), time.perf_counter()
    times = []
    correct = 0
    for request in requests:
        begun = time.perf_counter()
        correct += verify(parse(f"${request.answer}$"), parse(request.response))
        times.append(1000 * (time.perf_counter() - begun))
    wall, cpu = time.perf_counter() - started, cpu_seconds() - before
    times.sort()
    return {
        "per_second": round(len(requests) / wall, 1),
        "per_cpu_second": round(len(requests) / cpu, 1),
        "p50_milliseconds": round(times[len(times) // 2], 2),
        "p99_milliseconds": round(times[int(0.99 * len(times))], 2),
        "max_milliseconds": round(times[-1], 2),
        "correct": correct,
    }


def cpu_seconds() -> float:
    """User and system time of this process and its living children."""
    own = psutil.Process()
    times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def mixed_requests(data: Path, count: int) -> list[GradeRequest]:
    """Open answers of the development triples, boxed, after their own reasoning and filler."""
    path = data / "verify_dev" / "triples.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    requests = []
    for row in rows:
        found, _ = boxes(row["response"])
        if row["answer_type"] not in ("number", "expression") or not found:
            continue
        reasoning = row["response"].replace("\\boxed", "")
        kind = AnswerType(row["answer_type"])
        response = padded(reasoning, f"The final answer is $\\boxed{{{found[-1].text}}}$.")
        requests.append(GradeRequest(response, row["gold"], kind))
    random.Random(0).shuffle(requests)
    return requests[:count]


def symbolic_requests(count: int) -> list[GradeRequest]:
    """Equal and unequal pairs of closed forms; neither strings nor numbers decide them."""
    source = random.Random(1)
    requests = []
    for index in range(count):
        a, b, c = source.randint(2, 9), source.choice([2, 3, 5, 6, 7, 10]), source.randint(2, 30)
        off = index % 2
        gold, answer = source.choice(
            [
                (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b + off}}}"),
                (rf"\frac{{\sqrt{{{b}}}}}{{{b}}}", rf"\frac{{1}}{{\sqrt{{{b + off}}}}}"),
                (rf"\frac{{n}}{{n+{c}}}", rf"1-\frac{{{c}}}{{n+{c + off}}}"),
                (rf"{c}\pi+{a}", rf"{a + off}+\pi\cdot {c}"),
                (rf"x^2+{2 * a}x+{a * a}", rf"(x+{a + off})^2"),
            ]
        )
        requests.append(
            GradeRequest(padded("", f"\\boxed{{{answer}}}"), gold, AnswerType.EXPRESSION)
        )
    return requests


def padded(reasoning: str, answer: str) -> str:
    """A response of CHARACTERS characters in the trained form."""
    room = CHARACTERS - len(answer) - len("◁think▷◁/think▷")
    thinking = (reasoning + FILLER * (room // len(FILLER) + 1))[:room]
    return f"◁think▷{thinking}◁/think▷{answer}"


def warm_up() -> None:
    from math_verify import parse, verify

    verify(parse("$1$"), parse(r"$\frac{2}{2}$"))


if __name__ == "__main__":
    main()
