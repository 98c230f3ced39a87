"""Input that cannot be used: one clear line, exit code 2, nothing left running.

Of each kind one is a process of its own; the others run inside the test process, which is the same
code and saves each the seconds of importing it.
"""

from __future__ import annotations

import json
import shutil

import pytest
from inside import run_inside
from kvl.kimi_vl_model.checkpoint import INDEX_FILE, iterate_tensors
from safetensors.torch import save_file


def refused(workshop, *arguments: str) -> str:
    """The one error line of a command that must fail."""
    ended = run_inside(workshop.folder, *arguments)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("kvl-sft", "train", "sft.yaml", "problms.path=x"), "unknown key problms"),
        (("kvl-rl", "train", "rl.yaml", "run_dir=refused", "checkpoint=no_tensor"), "lm_head"),
    ],
    ids=["config", "checkpoint"],
)
def test_a_refused_command_is_one_line_and_no_process(workshop, damaged, arguments, expected):
    command = workshop.start(*arguments).wait()
    assert command.process.returncode == 2, command.stderr
    assert "Traceback" not in command.stdout + command.stderr
    assert command.left_over() == []
    (line,) = command.own_stderr
    assert line.startswith("error: ")
    assert expected in line


@pytest.mark.parametrize("program", ["kvl-rl", "kvl-sft"])
def test_an_unknown_key_is_named_with_what_was_meant(workshop, program):
    config = "rl.yaml" if program == "kvl-rl" else "sft.yaml"
    line = refused(workshop, program, "train", config, "problms.path=x.jsonl")
    assert "unknown key problms" in line
    assert "did you mean problems.path" in line


@pytest.mark.parametrize("program", ["kvl-rl", "kvl-sft"])
def test_a_missing_checkpoint_folder_is_named(workshop, program):
    config = "rl.yaml" if program == "kvl-rl" else "sft.yaml"
    line = refused(workshop, program, "train", config, "run_dir=refused", "checkpoint=nowhere")
    assert "nowhere/config.json: missing" in line


@pytest.fixture(scope="module")
def damaged(workshop) -> dict[str, str]:
    """Checkpoint folders that lack something, with the name of what each lacks."""
    lost = "language_model.lm_head.weight"
    source = workshop.folder / "sft/final"
    (shard,) = source.glob("*.safetensors")
    for name in ("no_shard", "no_tensor", "no_entry"):
        shutil.copytree(source, workshop.folder / name)
    (workshop.folder / "no_shard" / shard.name).unlink()
    tensors = {name: tensor for name, tensor, _ in iterate_tensors(source) if name != lost}
    for name in ("no_tensor", "no_entry"):
        save_file(tensors, workshop.folder / name / shard.name, metadata={"format": "pt"})
    index = json.loads((source / INDEX_FILE).read_text())
    del index["weight_map"][lost]
    (workshop.folder / "no_entry" / INDEX_FILE).write_text(json.dumps(index))
    return {"no_shard": shard.name, "no_tensor": lost, "no_entry": lost}


@pytest.mark.parametrize("folder", ["no_shard", "no_tensor", "no_entry"])
def test_what_a_checkpoint_lacks_is_named_before_training(workshop, damaged, folder):
    line = refused(
        workshop, "kvl-rl", "train", "rl.yaml", "run_dir=refused", f"checkpoint={folder}"
    )
    assert damaged[folder] in line
    assert not (workshop.folder / "refused").exists()


@pytest.mark.parametrize("folder", ["nowhere", "no_shard", "no_tensor"])
def test_what_a_checkpoint_lacks_is_named_before_evaluation(workshop, damaged, folder):
    """vLLM would leave the missing weights as they happen to be and answer nonsense."""
    line = refused(workshop, "kvl-rl", "eval", folder, "problems/heldout.jsonl")
    assert damaged.get(folder, "nowhere") in line


def test_problems_that_leave_nothing_are_named(workshop, records, write_records):
    problems = records(workshop.folder / "problems/heldout.jsonl")
    write_records(
        workshop.folder / "problems/unusable.jsonl", [one | {"answer": ""} for one in problems]
    )
    line = refused(
        workshop,
        "kvl-rl",
        "train",
        "rl.yaml",
        "run_dir=refused",
        "problems.path=problems/unusable.jsonl",
    )
    assert "problems/unusable.jsonl: no usable problem; 8 skipped" in line
