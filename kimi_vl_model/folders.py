"""Checkpoint folders are written under a hidden name and appear under their own when complete."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ..configs.errors import CheckpointError, KVLError
from .json_files import shown_name

# Weights in whatever format, and the state of whoever trained them: none is of a new model.
_WEIGHTS = (
    "safetensors bin pt pth ckpt pkl pickle npz npy msgpack h5 hdf5 gguf ggml ggjt onnx onnx_data "
    "tflite pb ot mlmodel pdparams pdopt distcp mar engine plan pte"
)
_STRAY = re.compile(
    rf".*\.({'|'.join(_WEIGHTS.split())})|.*\.index(\..+)?\.json|(optimizer|scheduler|rng_state).*"
    r"|training_args.*|trainer_state\.json|events\.out\.tfevents.*|adapter_(config|model).*"
    r"|complete\.json|driver\.json|zero_to_fp32\.py|latest|.*\.(incomplete|lock|partial|tmp)",
    re.IGNORECASE,
)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `out` if the block ends without an error
    and is removed otherwise.

    Raises KVLError if it cannot be made or moved, or if `out` is a file.
    """
    out = Path(os.path.abspath(out))
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with writing(out):
        if out.exists() and not out.is_dir():
            raise KVLError(f"{out}: is a file, not a folder")
        partial.mkdir(parents=True)
    try:
        yield partial
        with writing(out):
            replace_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Around what writes `out`, and nothing else: a full disk or a read-only one is a KVLError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise KVLError(
            f"{out}: cannot be written ({reason}); free space, or choose another folder"
        ) from error


def replace_folder(partial: Path, out: Path) -> None:
    """Rename a finished folder into place, over an older one if there is one."""
    _follow_umask(partial)
    old = out.with_name(f".{out.name}.old")
    _remove(old)
    if not out.exists():
        os.replace(partial, out)
        return
    os.replace(out, old)
    try:
        os.replace(partial, out)
    except OSError:
        os.replace(old, out)
        raise
    _remove(old)


def copy_other_files(source: Path, folder: Path) -> None:
    """Byte-for-byte copies of a checkpoint's files that hold no weights and no training state.

    Links are followed: a snapshot of the hub consists of them. Folders are not copied. Raises
    CheckpointError for a link that leads nowhere.
    """
    for file in sorted(source.iterdir()):
        if _STRAY.fullmatch(file.name):
            continue
        if file.is_symlink() and not file.exists():
            raise CheckpointError(f"{shown_name(str(file))}: is a link that leads nowhere")
        if file.is_file():
            shutil.copyfile(file, folder / file.name)


def _follow_umask(folder: Path) -> None:
    """safetensors gives its files mode 0600 whatever the umask; the folder has followed it."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*.safetensors"):
        if not file.is_symlink():
            file.chmod(mode)


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
