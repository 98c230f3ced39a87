"""Whatever a plugin does, wherever it does it, costs the samples it had and nothing else."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from kvl.configs.errors import ConfigError
from kvl.rewards.combine import Rewards, RewardSpec
from kvl.rewards.plugins import plugin_pool, plugin_process
from kvl.rewards.plugins.plugin_process import describe
from kvl.rewards.plugins.plugin_worker import NotLoaded
from kvl.rewards.testing import make_batch, make_sample
from kvl.rewards.types import Outcome
from kvl.rl.config import load_rl_config

GOOD, BAD = make_sample("7", tokens=40), make_sample("7", tokens=200)

# What ends a process or never returns, and what the sample's reason says about it.
ENDINGS = {
    "sys.exit(1)": "SystemExit: 1",
    "sys.exit()": "SystemExit",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "raise BaseException('out')": "BaseException: out",
    "raise ExceptionGroup('several', [ValueError('one')])": "ExceptionGroup: several",
    "raise Unprintable": "Unprintable: its text raises an error",
    "assert False, 'a\\nb\\ud800'": "AssertionError: a b\\ud800",
    "recurse()": "RecursionError",
    "bytearray(2**40)": "MemoryError",
    "input()": "EOFError",
    "open('/dev/tty')": "OSError",
    "os._exit(0)": "exit code 0",
    "os._exit(3)": "exit code 3",
    "os.abort()": "SIGABRT",
    "os.kill(os.getpid(), signal.SIGKILL)": "SIGKILL",
    "os.kill(os.getpid(), signal.SIGTERM)": "SIGTERM",
    "ctypes.string_at(0)": "SIGSEGV",
    "os.kill(os.getppid(), signal.SIGKILL); time.sleep(9)": "killed",
    "os.closerange(3, 100); time.sleep(0.2)": "",
    "os.fork() or time.sleep(0.2); sys.exit(5)": "SystemExit: 5",
    "threading.Thread(target=os._exit, args=(4,)).start(); time.sleep(9)": "exit code 4",
}
HANGS = {
    "while True: time.sleep(0.1)": "",
    "while True: pass": "",
    "re.match('(a+)+b', 'a' * 60)": "",  # never lets another thread run
    "os.kill(os.getpid(), signal.SIGSTOP)": "",
    "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32)); time.sleep(999)": "",
    "threading.Lock().acquire() or 0; (lambda lock: lock.acquire() + lock.acquire())"
    "(threading.Lock())": "",
}
HEAD = """
import ctypes, os, re, signal, sys, threading, time
class Unprintable(Exception):
    def __str__(self): sys.exit(1)
    __repr__ = __str__
def recurse(): return recurse()
"""


def function(statement: str) -> str:
    return f"def f(sample):\n    if sample.tokens > 100:\n        {statement}\n    return 1.0\n"


def coroutine(statement: str) -> str:
    return "async " + function(statement)


def batch(statement: str) -> str:
    body = textwrap.indent(function(statement).replace("f(sample)", "one(sample)"), "    ")
    return (
        "class f:\n    def __init__(self, config): pass\n"
        "    def grade(self, batch): return [f.one(sample) for sample in batch.samples]\n"
        f"    @staticmethod\n{body}"
    )


def constructor(statement: str) -> str:
    return (
        f"class f:\n    def __init__(self, config):\n        {statement}\n"
        "    def grade(self, batch): return [1.0 for sample in batch.samples]\n"
    )


def module(statement: str) -> str:
    return f"{statement}\ndef f(sample): return 1.0\n"


@pytest.fixture
def plugin(tmp_path):
    """Writes a plugin and gives its name."""

    def write(code: str) -> str:
        (tmp_path / "reward.py").write_text(HEAD + code, encoding="utf-8", errors="surrogatepass")
        return f"{tmp_path}/reward.py:f"

    return write


def scores(name: str, *samples, timeout: float = 60.0, workers: int = 1):
    spec = RewardSpec(name, timeout_seconds=timeout, workers=workers)
    with Rewards([RewardSpec("accuracy"), spec]) as rewards:
        (verdicts,) = rewards.score([make_batch(*samples)])
    return verdicts


def escaped(statement: str) -> str:
    return statement.replace("\n", "\\n").replace("\ud800", "\\ud800")


@pytest.mark.parametrize("statement", ENDINGS)
@pytest.mark.parametrize("place", [function, coroutine, batch])
def test_a_call_that_ends_its_process_costs_its_samples(plugin, place, statement):
    verdicts = scores(plugin(place(escaped(statement))), GOOD, BAD, GOOD)
    lost = verdicts[1]
    assert lost.outcome is Outcome.INVALID
    assert lost.reason.startswith("reward reward.py:f: ")
    assert ENDINGS[statement] in lost.reason
    assert lost.reason.isprintable()
    if place is function:
        assert [verdict.parts for verdict in (verdicts[0], verdicts[2])] == [
            {"accuracy": 1.0, "reward.py:f": 1.0}
        ] * 2


@pytest.mark.parametrize("statement", ENDINGS)
@pytest.mark.parametrize("place", [constructor, module])
def test_a_plugin_that_fails_while_it_is_loaded_costs_its_samples(plugin, place, statement):
    name = plugin(place(escaped(statement)))
    for verdict in scores(name, GOOD, GOOD):
        assert verdict.outcome is Outcome.INVALID
        assert verdict.reason.startswith("reward reward.py:f: ")
        assert ENDINGS[statement] in verdict.reason
        assert verdict.reason.isprintable()


@pytest.mark.parametrize("statement", HANGS)
@pytest.mark.parametrize("place", [function, coroutine, batch])
def test_a_call_that_hangs_is_killed(plugin, place, statement):
    verdicts = scores(plugin(place(statement)), GOOD, BAD, GOOD, timeout=1)
    assert verdicts[1].outcome is Outcome.TIMEOUT
    assert "killed after 1" in verdicts[1].reason or "took more than 1 s" in verdicts[1].reason
    if place is function:
        assert verdicts[0].gradable
        assert verdicts[2].gradable


@pytest.mark.parametrize("statement", HANGS)
@pytest.mark.parametrize("place", [constructor, module])
def test_a_plugin_that_hangs_while_it_is_loaded_is_killed(plugin, place, statement, monkeypatch):
    monkeypatch.setattr(plugin_pool, "LOAD_SECONDS", 2.0)
    name = plugin(place(statement))
    started = time.monotonic()
    for verdict in scores(name, *[GOOD] * 50, timeout=1):
        assert verdict.outcome is Outcome.INVALID
        assert "took more than 2 s to load" in verdict.reason
    assert time.monotonic() - started < 60  # not 50 times


def test_a_plugin_that_cannot_be_imported_at_first_is_tried_again(plugin, tmp_path, monkeypatch):
    monkeypatch.setattr(plugin_pool, "_RETRY_SECONDS", 0.0)
    name = plugin(module(f"if not os.path.exists('{tmp_path}/up'): sys.exit('down')"))
    with Rewards([RewardSpec(name)]) as rewards:
        ((first,),) = rewards.score([make_batch(GOOD)])
        assert "SystemExit: down" in first.reason
        (tmp_path / "up").touch()
        time.sleep(3)
        ((second,),) = rewards.score([make_batch(GOOD)])
    assert second.gradable


def test_a_worker_that_dies_between_two_calls_costs_nothing(plugin):
    later = "threading.Timer(0.1, os._exit, (1,)).start()"
    name = plugin(f"def f(sample):\n    {later}\n    return 1.0\n")
    with Rewards([RewardSpec(name)]) as rewards:
        for _ in range(2):
            ((verdict,),) = rewards.score([make_batch(GOOD)])
            assert verdict.gradable, verdict.reason
            time.sleep(1)


def test_several_processes_share_the_samples(plugin):
    name = plugin("def f(sample):\n    time.sleep(0.05)\n    return os.getpid() % 1000\n")
    verdicts = scores(name, *[GOOD] * 20, workers=2)
    assert len({verdict.parts["reward.py:f"] for verdict in verdicts}) == 2


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("sys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("os._exit(0)", "its process ended while it was loaded (exit code 0)"),
        ("os.abort()", "its process ended while it was loaded (SIGABRT)"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("syntax error here", "SyntaxError"),
    ],
)
def test_a_config_with_a_plugin_that_cannot_be_imported_is_one_error(
    plugin, tmp_path, statement, reason
):
    name = plugin(module(statement))
    config = tmp_path / "c.yaml"
    head = "run_dir: run\ncheckpoint: ckpt\nproblems: {path: p.jsonl}\n"
    config.write_text(f"{head}rewards:\n  - type: accuracy\n  - type: {name}\n")
    with pytest.raises(ConfigError) as error:
        load_rl_config(config)
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{config}:6: rewards.1: reward {name}: ")
    assert reason in line


def test_a_plugin_whose_import_hangs_is_given_up(plugin, monkeypatch):
    monkeypatch.setattr(plugin_process, "LOAD_SECONDS", 2.0)
    found = describe(plugin(module("time.sleep(9999)")))
    assert isinstance(found, NotLoaded)
    assert "took more than 2 s to load" in found.reason


def test_a_plugin_has_a_memory_limit_in_every_process_of_its_own(plugin):
    name = plugin(
        "import subprocess\n"
        "def f(sample):\n"
        "    if sample.tokens > 100: return len(bytearray(2**30)) / 2**30\n"
        "    code = 'bytearray(2**30)'\n"
        "    return subprocess.run([sys.executable, '-c', code]).returncode\n"
    )
    for memory_gib, child, own in ((0.5, 1.0, None), (4.0, 0.0, 1.0)):
        with Rewards([RewardSpec(name, memory_gib=memory_gib)]) as rewards:
            ((first, second, third),) = rewards.score([make_batch(GOOD, BAD, GOOD)])
        assert first.parts == third.parts == {"reward.py:f": child}
        assert second.parts.get("reward.py:f") == own
        assert ("MemoryError" in second.reason) is (own is None)


CHILDREN = """
import subprocess
def f(sample):
    kept = "time.sleep(9999)" if sample.tokens > 100 else "pass"
    sleeper = [sys.executable, "-c", "import time; time.sleep(9999)", "kvl-left-over-MARK"]
    subprocess.Popen(sleeper)
    subprocess.Popen(sleeper, start_new_session=True)
    if os.fork() == 0:  # a daemon: its parent is gone, its session is its own
        os.setsid()
        if os.fork() == 0:
            os.execv(sys.executable, sleeper)
        os._exit(0)
    subprocess.run(["sh", "-c", "trap '' TERM INT HUP; sleep 9999 & # kvl-left-over-MARK"])
    while sum("kvl-left-over-MARK" in " ".join(line) for line in titles()) < 3:
        time.sleep(0.05)
    exec(kept)
    return 1.0
def titles():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield open(f"/proc/{pid}/cmdline").read().split("\\0")
        except OSError:
            pass
"""


def left_over(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if any(mark in argument for argument in process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass
    return found


def gone(mark: str) -> bool:
    deadline = time.monotonic() + 30
    while (alive := left_over(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process in alive:
        process.kill()
    return not alive


@pytest.mark.parametrize("sample", [GOOD, BAD], ids=["idle", "killed"])
def test_what_a_plugin_started_ends_with_its_process(plugin, tmp_path, sample):
    name = plugin(CHILDREN.replace("MARK", tmp_path.name))
    scores(name, sample, timeout=5)
    assert gone(f"kvl-left-over-{tmp_path.name}")


COMMAND = """
import sys
from kvl.rewards.combine import Rewards, RewardSpec
from kvl.rewards.testing import make_batch, make_sample
with Rewards([RewardSpec(sys.argv[1], timeout_seconds=600)]) as rewards:
    rewards.score([make_batch(make_sample(tokens=40))])
    print("called", flush=True)
    rewards.score([make_batch(make_sample(tokens=int(sys.argv[2])))])
    print("called", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("tokens", [40, 200], ids=["idle", "busy"])
@pytest.mark.parametrize("group", [False, True], ids=["command", "group"])
def test_what_a_plugin_started_ends_when_the_command_is_killed(plugin, tmp_path, tokens, group):
    name = plugin(CHILDREN.replace("MARK", tmp_path.name))
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    with subprocess.Popen(
        [sys.executable, script, name, str(tokens)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        assert command.stdout.readline() == b"called\n"
        own = psutil.Process(command.pid).children(recursive=True)
        assert own
        if group:
            os.killpg(command.pid, signal.SIGKILL)
        else:
            command.kill()
        command.wait()
    assert gone(f"kvl-left-over-{tmp_path.name}")
    assert not psutil.wait_procs(own, timeout=30)[1]


def test_a_users_folders_named_like_packages_are_not_imported(tmp_path):
    installed = ("kvl", "vllm", "datasets", "numpy", "pydantic", "torch")
    for name in (*installed, "rewards", "configs", "rl"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('the user\\'s own')\n")
    for name in ("types", "pickle", "struct", "ctypes", "multiprocessing"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('the user\\'s own')\n")
    (tmp_path / "own.py").write_text(
        "import numpy, pickle\n"
        "from importlib.util import find_spec\n"
        f"specs = [find_spec(name) for name in {installed}]\n"
        f"found = [spec.origin for spec in specs if (spec.origin or '').startswith('{tmp_path}')]\n"
        "assert not found, found\n"
        "def f(sample): return 1.0\n"
    )
    (tmp_path / "sub").mkdir()
    script = tmp_path / "sub" / "script.py"
    script.write_text(
        "from kvl.rewards.combine import Rewards, RewardSpec\n"
        "from kvl.rewards.grading.math_pool import Comparison, MathPool\n"
        "from kvl.rewards.testing import make_batch\n"
        "if __name__ == '__main__':\n"
        "    for spec in (RewardSpec('./own.py:f'), RewardSpec('own:f', import_from='.')):\n"
        "        with Rewards([spec]) as rewards:\n"
        "            ((first, *_),) = rewards.score([make_batch()])\n"
        "            print(first.gradable, first.reason)\n"
        "    pool = MathPool(1, 60)\n"
        "    print(pool.submit(Comparison('1', '1')).result().outcome)\n"
        "    pool.close()\n"
    )
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.stdout.split() == ["True", "True", "correct"], ended.stdout + ended.stderr


def test_the_working_directory_is_not_on_a_plugins_path(plugin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    folder = Path(tmp_path, "elsewhere")
    folder.mkdir()
    name = plugin("def f(sample):\n    return len({'', os.getcwd()} & set(sys.path[:-1]))\n")
    assert [v.parts["reward.py:f"] for v in scores(name, GOOD)] == [0.0]
