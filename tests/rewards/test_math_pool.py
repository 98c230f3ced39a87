"""Math workers hang, die and are closed; the pool goes on, and leaves nothing behind."""

import multiprocessing
import subprocess
import sys
import time

import psutil
import pytest
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.grading.math_pool import Comparison, MathPool
from kvl.rewards.killable_pool import WorkersNotStarted
from kvl.rewards.types import GradeRequest, Outcome

EQUAL = Comparison(r"2\sqrt{3}", r"\sqrt{12}")
UNEQUAL = Comparison(r"2\sqrt{3}", r"\sqrt{13}")
ENDLESS = Comparison("1", r"\lfloor (10^8)! / 7 \rfloor")


def workers(parent=None):
    """The worker processes that run now, but not pebble's and multiprocessing's helpers."""
    children = (parent or psutil.Process()).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def wait_until_running(task):
    while not task.task.future.running():
        time.sleep(0.01)


@pytest.fixture(scope="module")
def pool():
    pool = MathPool(workers=1, timeout_seconds=3)
    yield pool
    pool.close()


def test_no_process_starts_before_the_first_expression():
    with Grader(workers=2, timeout_seconds=30) as grader:
        before = psutil.Process().children()
        request = GradeRequest("◁think▷x◁/think▷Answer: 5", "5", AnswerType.NUMBER)
        assert grader.grade([request])[0].outcome is Outcome.CORRECT
        assert psutil.Process().children() == before


def test_a_late_worker_is_killed_and_replaced(pool):
    assert pool.submit(EQUAL).result().outcome is Outcome.CORRECT
    (first,) = workers()
    started = time.monotonic()
    assert pool.submit(ENDLESS).result().outcome is Outcome.TIMEOUT
    assert 2.9 < time.monotonic() - started < 15
    assert not first.is_running()
    assert pool.submit(UNEQUAL).result().outcome is Outcome.INCORRECT


def test_an_endless_computation_ends_at_the_wall_clock_or_the_memory_limit(pool):
    started = time.monotonic()
    result = pool.submit(Comparison("1", "9^{9^{9^9}}")).result()
    assert result.outcome in (Outcome.TIMEOUT, Outcome.INVALID, Outcome.INCORRECT)
    assert time.monotonic() - started < 30
    assert pool.submit(EQUAL).result().outcome is Outcome.CORRECT


def test_a_worker_killed_at_work_makes_the_sample_invalid(pool):
    task = pool.submit(ENDLESS)
    wait_until_running(task)
    workers()[0].kill()
    result = task.result()
    assert result.outcome is Outcome.INVALID
    assert "died" in result.reason
    assert pool.submit(EQUAL).result().outcome is Outcome.CORRECT


def test_a_worker_killed_while_idle_costs_nothing(pool):
    pool.submit(EQUAL).result()
    workers()[0].kill()
    time.sleep(0.5)
    assert pool.submit(EQUAL).result().outcome is Outcome.CORRECT


def test_a_worker_that_cannot_start_makes_the_sample_invalid(pool):
    pool.submit(EQUAL).result()
    workers()[0].kill()
    time.sleep(0.5)
    multiprocessing.set_executable("/nonexistent/python")
    try:
        result = pool.submit(EQUAL).result()
    finally:
        multiprocessing.set_executable(sys.executable)
    assert result.outcome is Outcome.INVALID
    assert "died" in result.reason
    assert pool.submit(EQUAL).result().outcome is Outcome.CORRECT


def test_the_start_of_a_worker_is_not_on_the_clock():
    pool = MathPool(workers=1, timeout_seconds=0.5)  # a start takes about a second
    try:
        assert pool.submit(EQUAL).result().outcome is Outcome.CORRECT
    finally:
        pool.close()


def test_workers_import_neither_torch_nor_transformers(pool):
    pool.submit(EQUAL).result()
    paths = [mapping.path for mapping in workers()[0].memory_maps()]
    assert paths
    assert not any("torch" in path for path in paths)


def test_an_unparsable_gold_is_invalid_and_an_unparsable_prediction_incorrect(pool):
    assert pool.submit(Comparison(r"\frac{1}{", "1")).result().outcome is Outcome.INVALID
    assert pool.submit(Comparison("1", r"\frac{1}{")).result().outcome is Outcome.INCORRECT


def test_the_gold_goes_first_because_verify_is_not_symmetric(pool):
    assert pool.submit(Comparison("1<x<2", "(1,2)")).result().outcome is Outcome.CORRECT
    assert pool.submit(Comparison("(1,2)", "1<x<2")).result().outcome is Outcome.INCORRECT


def test_code_that_reaches_the_worker_is_not_executed(pool, tmp_path):
    target = tmp_path / "executed"
    for attack in (
        f"__import__('os').system('touch {target}')",
        f"\\operatorname{{eval}}(open('{target}','w'))",
        f"\\gcd(open('{target}','w'), 2)",
        f"answer: 1+open('{target}','w')$ and $2",
    ):
        assert pool.submit(Comparison("2", attack)).result().outcome is not Outcome.CORRECT
    assert not target.exists()


def test_workers_share_the_load():
    before = len(workers())
    pool = MathPool(workers=2, timeout_seconds=30)
    try:
        results = [task.result() for task in [pool.submit(EQUAL) for _ in range(20)]]
        assert {result.outcome for result in results} == {Outcome.CORRECT}
        assert len(workers()) == before + 2
    finally:
        pool.close()


def test_closing_leaves_no_worker_even_under_work():
    before = workers()
    pool = MathPool(workers=1, timeout_seconds=60)
    under_way, queued = pool.submit(ENDLESS), pool.submit(EQUAL)
    wait_until_running(under_way)
    started = time.monotonic()
    pool.close()
    assert under_way.result().outcome is queued.result().outcome is Outcome.INVALID
    assert time.monotonic() - started < 20
    assert workers() == before
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(EQUAL)


UNGUARDED = """
from kvl.rewards.killable_pool import WorkersNotStarted
from kvl.rewards.grading.math_pool import Comparison, MathPool
try:
    pool = MathPool(workers=2, timeout_seconds=30, start_seconds={seconds})
    pool.submit(Comparison("1", "2")).result()
except WorkersNotStarted as error:
    raise SystemExit({ending})
"""


@pytest.mark.parametrize(
    ("seconds", "ending", "why"),
    [
        # The pool breaks when a worker ends with an error; one that ends well is started again.
        (3600, "str(error)", "it ended before it took work"),
        (2, "print(error)", "nothing came up within 2 s"),
    ],
)
def test_a_script_without_a_main_guard_ends_with_an_error_that_says_so(
    tmp_path, seconds, ending, why
):
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED.format(seconds=seconds, ending=ending))
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True)
    lines = (ended.stdout + ended.stderr).splitlines()
    assert any(f"no worker process of the grader could start: {why}" in line for line in lines)
    assert any('`if __name__ == "__main__":`' in line for line in lines)


def test_a_worker_that_never_started_is_an_error():
    pool = MathPool(workers=1, timeout_seconds=3)
    multiprocessing.set_executable("/nonexistent/python")
    try:
        with pytest.raises(WorkersNotStarted, match="it ended before it took work"):
            pool.submit(EQUAL).result()
    finally:
        multiprocessing.set_executable(sys.executable)
        pool.close()


PARENT = """
from kvl.rewards.grading.math_pool import Comparison, MathPool
if __name__ == "__main__":
    pool = MathPool(workers=2, timeout_seconds=3)
    pool.submit(Comparison("1", "2")).result()
    task = pool.submit(Comparison("1", r"\\lfloor (10^8)! / 7 \\rfloor"))
    while not task.task.future.running():
        pass
    print("running", flush=True)
    task.result()
"""


def test_workers_end_after_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"running\n"
        busy_and_idle = workers(psutil.Process(parent.pid))
        assert len(busy_and_idle) == 2
        parent.kill()
    _, alive = psutil.wait_procs(busy_and_idle, timeout=20)
    assert not alive
