"""Checkpoint folders: whole or absent, modes by the umask, free of what is not theirs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...configs.errors import CheckpointError
from ...configs.system.files import atomic_folder
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
def checkpoint_folder(out: Path) -> Iterator[Path]:
    """An empty folder to fill with a checkpoint, which takes the place of `out` if the block ends
    without an error; its files follow the umask. Raises KVLError if it cannot be written."""
    with atomic_folder(Path(os.path.abspath(out))) as partial:
        yield partial
        _follow_umask(partial)


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
