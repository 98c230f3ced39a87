from __future__ import annotations

import socket
import threading

import pytest
from kvl.rl.doctor import checks, command, probes
from kvl.rl.doctor.checks import GIB, Check


def test_a_process_that_hangs_is_ended_with_what_it_had_said():
    code = "print('{\"torch\": 1}', flush=True)\nimport time\ntime.sleep(600)"
    assert probes.run_python(code, [], 5) == ({"torch": 1}, "no answer within 5 s")


def test_a_process_that_fails_leaves_its_last_line():
    code = "print('no json')\nraise RuntimeError('operator torchvision::nms does not exist')"
    facts, error = probes.run_python(code, [], 60)
    assert facts == {}
    assert error == "RuntimeError: operator torchvision::nms does not exist"


def test_a_process_that_is_killed_says_its_code():
    _, error = probes.run_python("import os\nos.kill(os.getpid(), 9)", [], 60)
    assert error == "it ended with code -9"


def test_a_stack_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert probes.stack({}) == {"error": "OSError: libtorch.so: cannot open"}


def machine(tmp_path, **files):
    """A /proc and a /sys/fs/cgroup with these files, of which __ is a slash."""
    proc, groups = tmp_path / "proc", tmp_path / "groups"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(
        "MemTotal: 67108864 kB\nMemFree: 1 kB\nMemAvailable: 50331648 kB\n"
    )
    for name, text in files.items():
        path = groups / name.replace("__", "/").replace("memory_", "memory.", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return proc, groups


def test_memory_without_a_limit_is_the_machines(tmp_path):
    proc, groups = machine(tmp_path, memory_max="max\n")
    expected = {"total": 64 * GIB, "available": 48 * GIB, "limit": None}
    assert probes.memory(proc, groups) == expected


@pytest.mark.parametrize("group", ["0::/", "0::/docker/a"])
def test_memory_is_limited_by_any_group_around_the_process(tmp_path, group):
    files = {"memory_max": f"{6 * GIB}\n", "memory_current": f"{5 * GIB}", "docker__a__x": ""}
    stat = f"anon 5\ninactive_file {2 * GIB}\n"
    proc, groups = machine(tmp_path, **files, memory_stat=stat)
    (proc / "self" / "cgroup").write_text(f"{group}\n")
    expected = {"total": 64 * GIB, "available": 3 * GIB, "limit": 6 * GIB}
    assert probes.memory(proc, groups) == expected


def test_ray_is_looked_for_where_a_run_would(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert probes.ray_address() == (None, False)
    (tmp_path / "ray_current_cluster").write_text("10.0.0.1:6379\n")
    assert probes.ray_address() == ("10.0.0.1:6379", False)
    for named, expected in (
        ("local", (None, False)),
        ("auto", ("10.0.0.1:6379", False)),
        ("10.0.0.2:1", ("10.0.0.2:1", True)),
    ):
        monkeypatch.setenv("RAY_ADDRESS", named)
        assert probes.ray_address() == expected


def test_a_token_is_looked_for_where_ray_does(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert not probes.ray_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("t\n")
    assert probes.ray_token()


def test_an_address_answers_if_something_listens_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert probes.answers(address)
    assert not probes.answers(address)
    assert not probes.answers("no address")


def test_a_check_that_raises_and_one_that_hangs_are_problems_and_the_rest_is_found():
    never = threading.Event()

    def broken() -> list[Check]:
        raise OSError(107, "Transport endpoint is not connected")

    def hangs() -> list[Check]:
        never.wait()
        return []

    sound = checks.python((3, 11, 7))
    found = command.look({"disk": broken, "ports": hangs, "Python": lambda: [sound]}, seconds=1)
    never.set()
    assert [one.state for one in found] == ["problem", "problem", "ok"]
    assert "Transport endpoint is not connected" in found[0].found
    assert found[1].found == "no answer within 1 s"
    assert all(one.fix for one in found[:2])


@pytest.mark.parametrize(("state", "sound"), [("ok", True), ("warning", True), ("problem", False)])
def test_problems_alone_make_the_command_fail(state, sound, monkeypatch, capsys):
    one = Check("disk", state, "found [red]", "" if state == "ok" else "mend [/x] it")
    monkeypatch.setattr(command, "all_checks", lambda: {"disk": lambda: [one]})
    assert command.doctor(as_json=False) is sound
    shown = capsys.readouterr().out
    assert "found [red]" in shown
    assert ("mend [/x] it" in shown) is (state != "ok")
