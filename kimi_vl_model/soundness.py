"""Whether a checkpoint folder can be trained and served: every file that either reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from ..configs.errors import CheckpointError
from .checkpoint import empty_model, load_config, tensor_problems
from .configuration import KimiVLConfig
from .files.json_files import read_object, shown
from .files.settings import check_generation
from .files.stored_tensors import raise_first
from .image_processing import KimiVLImageProcessor
from .tokenization import (
    BOS,
    EOS,
    IM_END,
    MEDIA_PAD,
    NAMED_SLOTS,
    PAD,
    RESERVED_SLOTS,
    read_ranks,
)

# Opened by vLLM or transformers on the way to our tokenizer and processor, if they are there.
_READ_BY_OTHERS = ("tokenizer_config.json", "special_tokens_map.json", "processor_config.json")


def check_checkpoint(folder: Path) -> None:
    """Raise CheckpointError unless every tensor of the model is in its file in its shape, and
    tokenizer, image processor and settings can be used and fit each other.

    Headers and small files are read, no weights. vLLM would serve a model with a tensor missing.
    """
    config = load_config(folder)
    raise_first(list(checkpoint_problems(folder, config, empty_model(config))))


def checkpoint_problems(
    folder: Path, config: KimiVLConfig, model: torch.nn.Module
) -> Iterator[str]:
    """Why the folder cannot be trained or served as it is; each names the file.

    model: of that config, which may be empty.
    """
    for part in (
        lambda: tensor_problems(folder, model),
        lambda: _tokenizer(folder, config),
        lambda: _images(folder, config),
        lambda: _generation(folder, config),
        lambda: _other_files(folder),
    ):
        try:
            yield from part()
        except CheckpointError as error:
            yield str(error)


def _tokenizer(folder: Path, config: KimiVLConfig) -> Iterator[str]:
    ranks, text = read_ranks(folder), config.text_config
    if ranks + RESERVED_SLOTS != text.vocab_size:
        yield (
            f"{folder / 'tiktoken.model'}: makes {ranks + RESERVED_SLOTS} ids, "
            f"config.json has vocab_size {text.vocab_size}"
        )
        return
    ids = {token: ranks + offset for offset, token in NAMED_SLOTS.items()}
    for setting, value, tokens in (
        ("media_placeholder_token_id", config.media_placeholder_token_id, (MEDIA_PAD,)),
        ("text_config.bos_token_id", text.bos_token_id, (BOS,)),
        ("text_config.eos_token_id", text.eos_token_id, (EOS, IM_END)),
        ("text_config.pad_token_id", text.pad_token_id, (PAD,)),
    ):
        given = value if isinstance(value, list) else [value]
        if not given or not all(one in [ids[token] for token in tokens] for one in given):
            yield (
                f"{folder / 'config.json'}: {setting} is {shown(value)}, but {tokens[0]} is "
                f"{ids[tokens[0]]} in tiktoken.model"
            )


def _images(folder: Path, config: KimiVLConfig) -> Iterator[str]:
    processor, vision = KimiVLImageProcessor.from_folder(folder), config.vision_config
    for name in ("patch_size", "merge_kernel_size"):
        ours, theirs = getattr(processor, name), getattr(vision, name)
        if ours != theirs:
            yield (
                f"{folder / 'preprocessor_config.json'}: {name} {ours}, "
                f"config.json has vision_config.{name} {theirs}"
            )


def _generation(folder: Path, config: KimiVLConfig) -> tuple[()]:
    """Not read here, where the tokenizer knows what ends a response, but by whoever loads an
    export of the checkpoint elsewhere. A folder may do without the file."""
    path = folder / "generation_config.json"
    if path.exists():
        check_generation(read_object(path), path, config.text_config.vocab_size)
    return ()


def _other_files(folder: Path) -> Iterator[str]:
    for name in _READ_BY_OTHERS:
        try:
            if (folder / name).exists():
                read_object(folder / name)
        except CheckpointError as error:
            yield str(error)
