"""Weight averaging: values, dtypes, the other files, and checkpoints that do not fit together."""

from __future__ import annotations

import os
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from kvl.configs.errors import CheckpointError, ConfigError
from kvl.kimi_vl_model.checkpoint import INDEX_FILE, SINGLE_FILE, iterate_tensors, load_model
from kvl.kimi_vl_model.files.stored_tensors import StoredTensor, files_of
from kvl.sft.merge import merge, mixing_weights
from safetensors.torch import load_file, save_file


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor, _ in iterate_tensors(folder)}


def sibling(checkpoint: Path, folder: Path, change) -> Path:
    """A copy in one file whose tensors went through `change(name, tensor)`; None removes one."""
    shutil.copytree(checkpoint, folder)
    changed = {name: change(name, tensor) for name, tensor in tensors_of(checkpoint).items()}
    for file in files_of(folder):
        (folder / file).unlink()
    (folder / INDEX_FILE).unlink(missing_ok=True)
    save_file({n: t for n, t in changed.items() if t is not None}, folder / SINGLE_FILE)
    return folder


@pytest.fixture
def other(checkpoint: Path, tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(1)

    def moved(_name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    return sibling(checkpoint, tmp_path / "other", moved)


def test_the_merge_is_the_weighted_mean_of_every_tensor(
    checkpoint: Path, other: Path, tmp_path: Path
) -> None:
    third = sibling(checkpoint, tmp_path / "third", lambda _, tensor: 3 * tensor)
    out = merge([checkpoint, other, third], [0.5, 0.25, 0.25], tmp_path / "out", 200_000)
    a, b, c, merged = map(tensors_of, (checkpoint, other, third, out))
    assert merged.keys() == a.keys()
    for name, tensor in merged.items():
        assert tensor.dtype == a[name].dtype
        expected = 0.5 * a[name].double() + 0.25 * b[name].double() + 0.25 * c[name].double()
        torch.testing.assert_close(tensor, expected.to(tensor.dtype), rtol=1e-6, atol=1e-7)
    assert len(files_of(out)) > 1
    load_model(out)


def test_a_checkpoint_merged_with_itself_is_unchanged(checkpoint: Path, tmp_path: Path) -> None:
    out = merge([checkpoint, checkpoint], None, tmp_path / "out")
    before, after = tensors_of(checkpoint), tensors_of(out)
    assert all(after[name].equal(tensor) for name, tensor in before.items())


def test_half_precision_is_averaged_in_fp32_and_stored_in_half(
    checkpoint: Path, tmp_path: Path
) -> None:
    # 1 + 1/128 is one bfloat16 step: a sum of 3 terms in bfloat16 would lose it.
    values = [1.0, 1.0, 1.0 + 3 / 128]
    folders = [
        sibling(
            checkpoint,
            tmp_path / f"half{index}",
            lambda _, tensor, value=value: torch.full(tensor.shape, value, dtype=torch.bfloat16),
        )
        for index, value in enumerate(values)
    ]
    for tensor in tensors_of(merge(folders, None, tmp_path / "out")).values():
        assert tensor.dtype == torch.bfloat16
        assert tensor.float().unique().tolist() == [1.0 + 1 / 128]


def test_the_other_files_are_those_of_the_first(
    checkpoint: Path, other: Path, tmp_path: Path
) -> None:
    (other / "config.json").write_text("{}")
    out = merge([checkpoint, other], None, tmp_path / "out")
    for file in checkpoint.iterdir():
        if file.suffix != ".safetensors" and file.name != INDEX_FILE:
            assert (out / file.name).read_bytes() == file.read_bytes()


def test_no_two_source_tensors_are_held_at_once(
    checkpoint: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = len(tensors_of(checkpoint))
    held: list[weakref.ref[torch.Tensor]] = []
    read = StoredTensor.read

    def watched(self: StoredTensor) -> torch.Tensor:
        assert all(reference() is None for reference in held)
        tensor = read(self)
        held.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(StoredTensor, "read", watched)
    merge([checkpoint, other], None, tmp_path / "out")
    assert len(held) == 2 * tensors


def test_a_shape_that_differs_names_file_and_tensor(checkpoint: Path, tmp_path: Path) -> None:
    name = next(iter(tensors_of(checkpoint)))
    cut = sibling(
        checkpoint, tmp_path / "cut", lambda n, tensor: tensor[:-1].clone() if n == name else tensor
    )
    with pytest.raises(CheckpointError) as error:
        merge([checkpoint, cut], None, tmp_path / "out")
    assert str(cut / SINGLE_FILE) in str(error.value)
    assert f"tensor {name} has shape" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_tensor_that_only_one_has_is_named(checkpoint: Path, tmp_path: Path) -> None:
    name = next(iter(tensors_of(checkpoint)))
    lacking = sibling(
        checkpoint, tmp_path / "lacking", lambda n, tensor: None if n == name else tensor
    )
    with pytest.raises(CheckpointError, match=f"tensor {name} has no counterpart in .*lacking"):
        merge([checkpoint, lacking], None, tmp_path / "out")
    with pytest.raises(CheckpointError, match=f"tensor {name} has no counterpart in .*lacking"):
        merge([lacking, checkpoint], None, tmp_path / "out")


def test_a_damaged_source_leaves_nothing_behind(
    checkpoint: Path, other: Path, tmp_path: Path
) -> None:
    weights = other / SINGLE_FILE
    os.truncate(weights, weights.stat().st_size - 100)
    with pytest.raises(CheckpointError, match="truncated in tensor"):
        merge([checkpoint, other], None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_never_replaced(checkpoint: Path, other: Path) -> None:
    before = load_file(other / SINGLE_FILE)
    with pytest.raises(ConfigError, match="already exists"):
        merge([checkpoint, other], None, other)
    assert load_file(other / SINGLE_FILE).keys() == before.keys()


@pytest.mark.parametrize(
    ("count", "weights", "message"),
    [
        (1, None, "at least two"),
        (2, [1.0], "1 for 2 checkpoints"),
        (2, [1.5, -0.5], "must not be negative"),
        (2, [float("nan"), 1.0], "must not be negative"),
        (2, [0.7, 0.7], "must add up to 1, not 1.4"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    count: int, weights: list[float] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        mixing_weights(count, weights)
