"""What an export writes besides tensors: modes, what is copied and what is not, and full disks."""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from kvl.configs.common import LoRAConfig
from kvl.configs.errors import CheckpointError, KVLError
from kvl.kimi_vl_model.checkpoint import (
    INDEX_FILE,
    SINGLE_FILE,
    export_checkpoint,
    load_model,
    persistent_state,
)
from kvl.kimi_vl_model.modeling import KimiVLForConditionalGeneration
from kvl.kimi_vl_model.soundness import check_checkpoint
from kvl.kimi_vl_model.tiny import write_tiny_checkpoint
from kvl.kimi_vl_model.tuning.adapters import adapter_tensors, add_adapters, save_adapter

STRAY = [
    "pytorch_model.bin",
    "pytorch_model-00001-of-00002.bin",
    "pytorch_model.bin.index.json",
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state.pth",
    "rng_state_0.pth",
    "training_args.bin",
    "trainer_state.json",
    "consolidated.00.pth",
    "flax_model.msgpack",
    "tf_model.h5",
    "model-Q4_K_M.gguf",
    "MODEL.GGUF",
    "model.onnx",
    "model.ckpt",
    "adapter_config.json",
    "adapter_model.safetensors",
    "model-00007-of-00009.safetensors",
    "model.fp32.safetensors",
    "model.safetensors.index.fp32.json",
    "complete.json",
    "config.json.lock",
]
WANTED = ["config.json", "tiktoken.model", "modeling_kimi_vl.py", "chat_template.jinja", "LICENSE"]


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
@pytest.mark.usefixtures("umask")
def test_files_and_folders_follow_the_umask(
    checkpoint: Path, tmp_path: Path, mask: int, file: int, folder: int
) -> None:
    os.umask(mask)
    model = load_model(checkpoint)
    out = export_checkpoint(persistent_state(model), checkpoint, tmp_path / "runs" / "out", 300_000)
    adapted = add_adapters(model, LoRAConfig(rank=2))
    save_adapter(adapted, adapter_tensors(adapted), checkpoint, tmp_path / "adapter")
    tiny = write_tiny_checkpoint(tmp_path / "tiny", texts=["a"])
    for written in (out, tmp_path / "adapter", tiny):
        assert mode(written) == folder
        assert {mode(path) for path in written.iterdir()} == {file}
    assert mode(out.parent) == folder


def test_weights_in_other_formats_and_training_states_are_not_copied(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    for name in [*STRAY, "chat_template.jinja", "LICENSE"]:
        (source / name).write_text("{}")
    (source / "figures").mkdir()
    out = export_checkpoint(persistent_state(model), source, tmp_path / "out")
    names = {path.name for path in out.iterdir()}
    assert not names & {*STRAY, SINGLE_FILE, "figures"}
    assert names.issuperset(WANTED)
    assert names.issuperset({INDEX_FILE, "model-00001-of-00001.safetensors"})


def test_a_snapshot_of_links_is_loaded_and_exported_as_files(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    shutil.copytree(checkpoint, blobs)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(blobs.iterdir())):
        blob = file.rename(blobs / f"{number:040x}")
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    check_checkpoint(snapshot)
    out = export_checkpoint(persistent_state(load_model(snapshot)), snapshot, tmp_path / "out")
    assert not any(path.is_symlink() for path in out.iterdir())
    for name in ("config.json", "tiktoken.model", "modeling_kimi_vl.py"):
        assert (out / name).read_bytes() == (checkpoint / name).read_bytes()


def test_a_link_that_leads_nowhere_is_named(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    (source / "chat_template.jinja").symlink_to("../blobs/gone")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: is a link that leads"):
        export_checkpoint(persistent_state(model), source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can grow beyond 100 kB: what a full disk does to whoever writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_one_line_and_leaves_nothing(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    with pytest.raises(KVLError, match="out: cannot be written") as error:
        export_checkpoint(persistent_state(model), checkpoint, tmp_path / "out")
    assert "\n" not in str(error.value)
    with pytest.raises(KVLError, match="tiny: cannot be written"):
        write_tiny_checkpoint(tmp_path / "tiny", texts=["a"])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_takes_no_folder_is_one_line(
    checkpoint: Path, model: KimiVLForConditionalGeneration, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for out, wrong in (
        (tmp_path / "file", "is a file, where a folder has to be written"),
        (tmp_path / "file" / "out", "cannot be written"),
        (Path("/proc/out"), "cannot be written"),
        (tmp_path / ("x" * 300), "cannot be written"),
    ):
        with pytest.raises(KVLError, match=wrong):
            export_checkpoint(persistent_state(model), checkpoint, out)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_something_else_is_not_replaced_by_a_tiny_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(KVLError, match="holds something else than a checkpoint"):
        write_tiny_checkpoint(tmp_path, texts=["a"])
    assert (tmp_path / "thesis.tex").read_text() == "mine"
