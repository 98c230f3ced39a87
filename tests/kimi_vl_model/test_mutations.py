"""Checkpoint files changed at random: each loads, or the check before training names it.

A folder that passes `check_checkpoint` is then loaded and run, so that nothing is found later.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kvl.configs.errors import CheckpointError
from kvl.kimi_vl_model.checkpoint import (
    INDEX_FILE,
    export_checkpoint,
    load_model,
    persistent_state,
)
from kvl.kimi_vl_model.processing import KimiVLProcessor
from kvl.kimi_vl_model.soundness import check_checkpoint
from kvl.kimi_vl_model.tiny import TINY_TEXT, TINY_VISION, write_tiny_checkpoint
from kvl.problems.types import ProblemError
from PIL import Image

Mutation = Callable[[bytes, random.Random], bytes]

CASES = 150  # of each file: 900 in all
# Far less than what any of the lies asks for, far more than the tiny model needs.
MOST_MEMORY_KIB = 300_000
VALUES = [
    *(-5, -1, 0, 1, 2, 3, 7, 255, 2**31, 2**62, 2**63, 2**64, 10**30, 10**4000),
    *(0.0, 0.5, 1.5, -1.5, 4.0, 1e-300, 1e308, float("nan"), float("inf")),
    *(True, False, None, "", "x", "8", "-1", "F8_E4M3", "I8", "BOOL", "fp8", "bfloat16", "\ud800"),
    *("../../etc/passwd", "/etc/passwd", "a\nb", "model.safetensors", "x" * 10_000),
    *([], [1], [2, 2], [0, 0], [-1, 4], [4, 2], [1, 2, 3], [True, True], [2.0, 2.0], ["a", "b"]),
    *([[2, 2]], [2**40, 2**40], [0, 2**63], {}, {"a": 1}, {"quant_method": "fp8"}),
]
DEEP = 3000


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As small as a checkpoint gets, in a few shards."""
    small = {"hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 16}
    heads = {"kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8}
    layers = {"num_hidden_layers": 2, "n_routed_experts": 4}
    vision = {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16}
    single = write_tiny_checkpoint(
        tmp_path_factory.mktemp("mutations") / "single",
        texts=["a"],
        text_config={**TINY_TEXT, **small, **heads, **layers},
        vision_config={**TINY_VISION, **vision},
    )
    (single / "tokenizer_config.json").write_text('{"model_max_length": 8192}')
    state = persistent_state(load_model(single))
    return export_checkpoint(state, single, single.with_name("sharded"), 200_000)


@pytest.fixture
def mutated(sound: Path, tmp_path: Path) -> Path:
    """Links to the files of the sound one; a test replaces what it changes."""
    for file in sound.iterdir():
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def outcome(folder: Path) -> str:
    """What the check finds, one line; or "loads", for a folder that then really does."""
    try:
        check_checkpoint(folder)
    except CheckpointError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 1500
        assert str(folder) in message
        message.encode()
        return "refused"
    processor = KimiVLProcessor.from_pretrained(folder)
    ids = processor.encode_prompt(["What is this?"]).token_ids
    with torch.no_grad():
        load_model(folder)(torch.tensor([ids]))
    try:
        processor.image_processor.preprocess(Image.new("RGB", (60, 40)))
    except ProblemError:
        return "loads, without images"
    return "loads"


def set_somewhere(tree: Any, random_: random.Random) -> None:
    """Another value, no value or a foreign key, at a random place of a JSON tree."""
    places = []
    waiting = [tree]
    while waiting:
        inner = waiting.pop()
        items = inner.items() if isinstance(inner, dict) else enumerate(inner)
        for key, value in items:
            places.append((inner, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    if not places:
        return
    inner, key = random_.choice(places)
    kind = random_.random()
    if kind < 0.8:
        inner[key] = copy.deepcopy(random_.choice(VALUES))
    elif kind < 0.9 or not isinstance(inner, dict):
        del inner[key]
    else:
        inner[random_.choice(["", "x", "dtype", "quantization_config", "\n"])] = inner.pop(key)


def change_json(content: bytes, random_: random.Random) -> bytes:
    tree = json.loads(content)
    for _ in range(random_.choice([1, 1, 1, 2, 5])):
        set_somewhere(tree, random_)
    text = json.dumps(tree)
    if random_.random() < 0.1:
        text = text.replace(": 2", ": " + "[" * DEEP + "]" * DEEP, 1)
    if random_.random() < 0.1:
        key = random_.choice([*tree, "x"])
        text = text[:-1] + f", {json.dumps(key)}: 1, {json.dumps(key)}: 2}}"
    return text.encode()


def change_bytes(content: bytes, random_: random.Random) -> bytes:
    """Cut, doubled, overwritten or lost somewhere, as by a bad disk or an interrupted copy."""
    at = random_.randrange(len(content))
    until = min(len(content), at + random_.choice([1, 1, 2, 8, 100]))
    match random_.randrange(5):
        case 0:
            return content[:at]
        case 1:
            return content[:until] + content[at:]
        case 2:
            return content[:at] + content[until:]
        case 3:
            return content[:at] + random_.randbytes(until - at) + content[until:]
        case _:
            return bytes(reversed(content[at:until])).join([content[:at], content[until:]])


def change_lines(content: bytes, random_: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    at, other = random_.randrange(len(lines)), random_.randrange(len(lines))
    match random_.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at] = lines[at].replace(b" ", b" 1", 1)
        case 3:
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            lines = lines[:at]
    return b"".join(lines)


def change_header(content: bytes, random_: random.Random) -> bytes:
    """A safetensors file whose header, or the length of it, lies about the data behind it."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    match random_.randrange(8):
        case 0:
            lie = random_.choice([0, 1, length - 1, length + 1, 2**27, 2**40, 2**63, 2**64 - 1])
            return struct.pack("<Q", lie) + header + data
        case 1:
            data = data[: random_.randrange(len(data))]
        case 2:
            data += random_.randbytes(random_.choice([1, 100]))
        case 3:
            header = change_bytes(header, random_)
        case 4:
            entries = json.loads(header)
            one, other = random_.sample([name for name in entries if name != "__metadata__"], 2)
            begin, end = entries[one]["data_offsets"]
            entries[other]["data_offsets"] = [begin, end]
            if random_.random() < 0.5:
                entries[other]["shape"] = entries[one]["shape"]
            header = json.dumps(entries).encode()
        case _:
            header = change_json(header, random_)
    return struct.pack("<Q", len(header)) + header + data


FILES: dict[str, tuple[str, Mutation]] = {
    "header": ("model-00001-of-*.safetensors", change_header),
    "index": (INDEX_FILE, change_json),
    "config": ("config.json", change_json),
    "preprocessor": ("preprocessor_config.json", change_json),
    "generation": ("generation_config.json", change_json),
    "vocabulary": ("tiktoken.model", change_lines),
}


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_loads_or_is_refused_by_the_check(
    sound: Path, mutated: Path, name: str
) -> None:
    pattern, change = FILES[name]
    (file,) = mutated.glob(pattern)
    content = file.read_bytes()
    file.unlink()
    counts: Counter[str] = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(CASES):
        random_ = random.Random(f"{name} {seed}")
        rough = seed % 4 == 0 and name != "header"
        file.write_bytes((change_bytes if rough else change)(content, random_))
        counts[outcome(mutated)] += 1
    assert counts.total() == CASES
    assert counts["refused"] > CASES // 4
    # Other tests of this process had their own peak before.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + MOST_MEMORY_KIB
    file.write_bytes(content)
    assert outcome(mutated) == "loads"
