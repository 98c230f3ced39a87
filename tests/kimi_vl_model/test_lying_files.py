"""Files that are read and lie: each lie is one line that names file and place, from the check."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kvl.configs.errors import CheckpointError
from kvl.kimi_vl_model.checkpoint import INDEX_FILE, SINGLE_FILE, load_model
from kvl.kimi_vl_model.files.stored_tensors import StoredTensor
from kvl.kimi_vl_model.image_processing import KimiVLImageProcessor
from kvl.kimi_vl_model.soundness import check_checkpoint
from safetensors.torch import load_file, save_file

NAME = "vision_tower.patch_embed.proj.bias"  # 96 values of F32
Header = dict[str, Any]


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def problem_of(folder: Path, read: Callable[[Path], object] = check_checkpoint) -> str:
    with pytest.raises(CheckpointError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def split(file: Path) -> tuple[Header, bytes]:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(file: Path, header: bytes | Header, data: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"shape": [-96]}, "has the shape [-96], which is no list of sizes"),
        ({"shape": [96.0]}, "has the shape [96.0]"),
        ({"shape": [True, 96]}, "has the shape [True, 96]"),
        ({"shape": [2**70, 0]}, "has the shape [1180591620717411303424, 0]"),
        ({"shape": [2**62, 2**62]}, "has 384 bytes for F32 (46116860"),
        ({"shape": "96"}, "has the shape '96'"),
        ({"shape": None}, "has no shape"),
        ({"shape": [95]}, "has 384 bytes for F32 (95,)"),
        ({"dtype": None}, "has no dtype"),
        ({"dtype": "F31"}, "has the dtype 'F31', which is unknown"),
        ({"dtype": ["F32"]}, "has the dtype ['F32'], which is unknown"),
        ({"dtype": "F16"}, "has 384 bytes for F16 (96,)"),
        ({"data_offsets": None}, "has no data_offsets"),
        ({"data_offsets": [384]}, "has the data_offsets [384]"),
        ({"data_offsets": [-384, 0]}, "has the data_offsets [-384, 0]"),
        ({"data_offsets": [384, 0]}, "has the data_offsets [384, 0]"),
        ({"data_offsets": [0.0, 384.0]}, "has the data_offsets [0.0, 384.0]"),
        ({"data_offsets": [2**62, 2**62 + 384]}, "ends at byte 4611686018427"),
    ],
)
def test_a_lying_entry_names_the_tensor(folder: Path, change: Header, wrong: str) -> None:
    file = folder / SINGLE_FILE
    header, data = split(file)
    entry = {**header[NAME], **change}
    header[NAME] = {key: value for key, value in entry.items() if value is not None}
    join(file, header, data)
    problem = problem_of(folder)
    assert problem.startswith(f"{file}: ")
    assert f"tensor {NAME}" in problem
    assert wrong in problem


def test_an_entry_that_is_no_object_is_named(folder: Path) -> None:
    header, data = split(folder / SINGLE_FILE)
    join(folder / SINGLE_FILE, {**header, NAME: 3}, data)
    assert f"tensor {NAME} is described by 3 instead of an object" in problem_of(folder)


def test_tensors_that_overlap_leave_a_gap_or_do_not_reach_the_end_are_named(folder: Path) -> None:
    file = folder / SINGLE_FILE
    header, data = split(file)
    begin, end = header[NAME]["data_offsets"]
    join(file, {**header, NAME: {**header[NAME], "data_offsets": [begin - 4, end - 4]}}, data)
    assert f"tensor {NAME} overlaps tensor " in problem_of(folder)
    join(file, header, data + b"12345")
    assert "the last 5 bytes belong to no tensor" in problem_of(folder)
    del header[NAME]
    join(file, header, data)
    assert f"of the data instead of {begin}" in problem_of(folder)


@pytest.mark.parametrize(
    ("header", "wrong"),
    [
        (b"{" + b'"a":{' * 5000 + b"}" * 5001, "nested too deeply"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "nested more than 32 deep"),
        (b'{"a": {}, "a": {}}', "key a is given twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "key dtype is given twice"),
        (b'{"\xff": {}}', "can't decode byte 0xff"),
        (b'{"\\ud800": {}}', "surrogates not allowed"),
        (b'{"a": {"shape": [NaN]}}', "NaN is no JSON number"),
        (b'{"a": {"shape": [1e999]}}', "the number 1e999 is too large"),
        (b'{"a": ' + b"1" * 5000 + b"}", "4300 digits"),
        (b"[]", "not a JSON object"),
        (b"{}", "holds no tensor"),
        (b'{"__metadata__": {"format": 1}}', "__metadata__ does not map text to text"),
        (b"", "damaged header"),
    ],
)
def test_a_header_that_is_no_object_of_entries_is_named(
    folder: Path, header: bytes, wrong: str
) -> None:
    join(folder / SINGLE_FILE, header, b"")
    problem = problem_of(folder)
    assert problem.startswith(str(folder / SINGLE_FILE))
    assert wrong in problem


@pytest.mark.parametrize("length", [0, 1, 2**27, 2**40, 2**64 - 1])
def test_a_header_length_that_lies_is_named(folder: Path, length: int) -> None:
    file = folder / SINGLE_FILE
    with file.open("r+b") as opened:
        opened.write(struct.pack("<Q", length))
    assert problem_of(folder).startswith(f"{file}: damaged")


def test_a_huge_sparse_header_is_not_read(folder: Path) -> None:
    file = folder / SINGLE_FILE
    with file.open("wb") as opened:
        opened.write(struct.pack("<Q", 2**40))
    os.truncate(file, 2**41)
    assert "damaged header (of 1099511627776 bytes)" in problem_of(folder)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.uint8])
def test_quantized_tensors_are_one_line_that_says_what_to_do(
    folder: Path, dtype: torch.dtype
) -> None:
    tensors = load_file(folder / SINGLE_FILE)
    experts = [name for name in tensors if ".experts." in name]
    save_file({**tensors, **{n: tensors[n].to(dtype) for n in experts}}, folder / SINGLE_FILE)
    problem = problem_of(folder)
    assert f"and {len(experts) - 1} more are stored as" in problem
    assert "not supported: dequantize the checkpoint to BF16" in problem
    assert "see kvl-sft inspect" not in problem


@pytest.mark.parametrize(
    ("file", "wrong"),
    [
        ("../copy/model.safetensors", "which is no name of a .safetensors file beside"),
        ("/etc/passwd", "which is no name of a .safetensors file beside"),
        ("shards/model.safetensors", "which is no name of a .safetensors file beside"),
        ("config.json", "which is no name of a .safetensors file beside"),
        ("a\0.safetensors", "which is no name of a .safetensors file beside"),
        ("x" * 300 + ".safetensors", "which is no name of a .safetensors file beside"),
        (3, "in 3, which is no name"),
        (["a"], "in ['a'], which is no name"),
        (None, "in None, which is no name"),
    ],
)
def test_an_index_that_lies_opens_nothing(folder: Path, file: object, wrong: str) -> None:
    header, _ = split(folder / SINGLE_FILE)
    names = [name for name in header if name != "__metadata__"]
    index = {"weight_map": dict.fromkeys(names, SINGLE_FILE) | {NAME: file}}
    (folder / INDEX_FILE).write_text(json.dumps(index))
    assert wrong in problem_of(folder, load_model)


def test_a_file_that_shrinks_after_the_check_is_named(folder: Path) -> None:
    tensor = StoredTensor(folder / SINGLE_FILE, torch.float32, (10**6,), 10**7)
    with pytest.raises(CheckpointError, match="was cut short while it was read"):
        tensor.read()


CONFIG = [
    ("text_config.vocab_size", -5, "should be greater than or equal to 1, not -5"),
    ("text_config.vocab_size", "1024", "should be a valid integer, not '1024'"),
    ("text_config.vocab_size", 1024.0, "should be a valid integer, not 1024.0"),
    ("text_config.vocab_size", True, "should be a valid integer, not True"),
    ("text_config.vocab_size", 2**40, "should be less than or equal to"),
    ("text_config.num_hidden_layers", 10**9, "should be less than or equal to 256"),
    ("text_config.n_routed_experts", 1, "should be greater than or equal to 2"),
    ("text_config.num_experts_per_tok", 9, "num_experts_per_tok exceeds"),
    ("text_config.topk_group", 2, "do not split into 1 n_group"),
    ("text_config.num_key_value_heads", 1, "must be equal to num_attention_heads"),
    ("text_config.first_k_dense_replace", 4, "must not exceed num_hidden_layers"),
    ("text_config.qk_rope_head_dim", 63, "should be a multiple of 2"),
    ("text_config.rms_norm_eps", -1e-5, "should be greater than or equal to 0.0"),
    ("text_config.rope_theta", "800000", "should be a valid number"),
    ("text_config.norm_topk_prob", 1, "should be a valid boolean"),
    ("text_config.hidden_act", "gelu", "should be 'silu', not 'gelu'"),
    ("text_config.torch_dtype", "float8_e4m3fn", "should be 'float64'"),
    ("text_config.pad_token_id", 10**6, "1000000 is no id below vocab_size"),
    ("text_config.eos_token_id", [769, -1], "eos_token_id.1 should be greater than or equal to 0"),
    ("text_config.tie_word_embeddings", 0, "only False is supported"),
    ("text_config.quantization_config", {"quant_method": "fp8"}, "quantized checkpoint is not"),
    ("text_config.hidden_size", None, "should be a valid integer, not None"),
    ("vision_config.num_hidden_layers", 0, "should be greater than or equal to 1"),
    ("vision_config.hidden_size", 98, "must be a multiple of 4 · num_attention_heads"),
    ("vision_config.patch_size", "14", "should be a valid integer"),
    ("vision_config.merge_kernel_size", [2], "should have at least 2 items"),
    ("vision_config.merge_kernel_size", [0, 2], "merge_kernel_size.0 should be greater"),
    ("vision_config.init_pos_emb_height", 1.5, "should be a valid integer"),
    ("media_placeholder_token_id", -1, "should be greater than or equal to 0"),
    ("media_placeholder_token_id", "x", "should be a valid integer"),
    ("kv_a_layernorm_eps", "1e-6", "should be a valid number"),
    ("ignore_index", 5, "should be less than 0"),
    ("vocab_size", 1000, "vocab_size is 1000, text_config.vocab_size "),
    ("architectures", ["LlamaForCausalLM"], "does not hold KimiVLForConditionalGeneration"),
    ("quantization_config", {"quant_method": "fp8"}, "quantized checkpoint is not supported"),
    ("vision_config", None, "vision_config should be a valid dictionary"),
]


@pytest.mark.parametrize(("field", "value", "wrong"), CONFIG)
def test_a_config_field_of_a_wrong_kind_or_size_is_named(
    folder: Path, field: str, value: object, wrong: str
) -> None:
    settings = json.loads((folder / "config.json").read_text())
    *sections, leaf = field.split(".")
    holder = settings
    for section in sections:
        holder = holder[section]
    holder[leaf] = value
    (folder / "config.json").write_text(json.dumps(settings))
    problem = problem_of(folder)
    assert problem.startswith(f"{folder / 'config.json'}: ")
    assert leaf in problem
    assert wrong in problem


def test_a_decoder_setting_that_would_be_another_models_is_required(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    del settings["text_config"]["routed_scaling_factor"], settings["text_config"]["rope_theta"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert "text_config.routed_scaling_factor is missing" in problem_of(folder)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[" * 5000, "nested too deeply"),
        ('{"model_type": "kimi_vl", "a": NaN}', "NaN is no JSON number"),
        ('{"model_type": "kimi_vl", "model_type": "kimi_vl"}', "key model_type is given twice"),
        ('"kimi_vl"', "not a JSON object"),
        ("", "not valid JSON"),
        ('{"model_type": ["kimi_vl"]}', "model_type is ['kimi_vl']"),
    ],
)
def test_a_config_that_is_no_plain_object_is_named(folder: Path, text: str, wrong: str) -> None:
    (folder / "config.json").write_text(text)
    assert wrong in problem_of(folder)


def edited(change: Callable[[list[bytes]], object]) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        change(lines)
        return b"".join(lines)

    return edit


def swapped(old: bytes, new: bytes) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        lines[300] = lines[300].replace(old, new, 1)

    return change


@pytest.mark.parametrize(
    ("edit", "wrong"),
    [
        (lambda content: content[:-2], "tiktoken.model"),
        (lambda content: content[: content.rindex(b" ")], "is not a token in base64 and its rank"),
        (
            lambda content: content[: content.rindex(b"\n", 0, -1) + 1],
            "ids, config.json has vocab_size",
        ),
        (lambda content: content[: len(content) // 2], "tiktoken.model"),
        (lambda content: b"", "256 of the 256 single bytes are no token"),
        (lambda content: content + b"\x00\xff", "is not a token in base64 and its rank"),
        (edited(lambda lines: lines.pop(300)), "no line has rank 300"),
        (edited(lambda lines: lines.insert(300, lines[299])), "the token of line 300 again"),
        (edited(swapped(b" 300", b" 299")), "rank 299 is given twice"),
        (edited(swapped(b" 300", b" 3000")), "no line has rank 300"),
        (edited(swapped(b" 300", b" -300")), "is not a token in base64"),
        (edited(swapped(b" 300", b" 300.0")), "is not a token in base64"),
        (
            edited(lambda lines: lines.__setitem__(300, b"!!" + lines[300])),
            "not a token in base64",
        ),
        (edited(lambda lines: lines.__setitem__(300, b"QQ 300\n")), "is not a token in base64"),
        (edited(lambda lines: lines.__setitem__(300, b"QUFB" * 999 + b" 300\n")), "of 2997 bytes"),
        (
            edited(lambda lines: lines.extend([b"enp6enp6eno= %d\n" % len(lines)])),
            "ids, config.json has vocab_size",
        ),
    ],
)
def test_a_damaged_vocabulary_is_named(
    folder: Path, edit: Callable[[bytes], bytes], wrong: str
) -> None:
    file = folder / "tiktoken.model"
    file.write_bytes(edit(file.read_bytes()))
    problem = problem_of(folder)
    assert str(file) in problem
    assert wrong in problem


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("preprocessor_config.json", '{"patch_size": 14', "not valid JSON"),
        ("preprocessor_config.json", '{"patch_size": 0}', "patch_size should be greater than or"),
        (
            "preprocessor_config.json",
            '{"patch_size": "14"}',
            "patch_size should be a valid integer",
        ),
        ("preprocessor_config.json", '{"patch_size": 28}', "config.json has vision_config.patch_s"),
        ("preprocessor_config.json", '{"in_token_limit": -1}', "in_token_limit should be greater"),
        (
            "preprocessor_config.json",
            '{"image_std": [0.5, 0, 0.5]}',
            "image_std.1 should be",
        ),
        ("preprocessor_config.json", '{"image_mean": [0.5]}', "image_mean should have at least 3"),
        ("preprocessor_config.json", '{"image_mean": 0.5}', "image_mean should be a valid list"),
        (
            "preprocessor_config.json",
            '{"merge_kernel_size": [1, 4]}',
            "merge_kernel_size [1, 4]",
        ),
        ("preprocessor_config.json", '{"pad_input": "yes"}', "pad_input should be a valid boolean"),
        ("preprocessor_config.json", '{"pad_input": 1}', "pad_input should be a valid boolean"),
        (
            "preprocessor_config.json",
            '{"pad_input": false}',
            "pad_input is false, which",
        ),
        ("generation_config.json", '{"eos_token_id": 99999}', "eos_token_id 99999 is no id below"),
        (
            "generation_config.json",
            '{"temperature": "hot"}',
            "temperature should be a",
        ),
        ("generation_config.json", "[]", "not a JSON object"),
        ("tokenizer_config.json", "{", "not valid JSON"),
        ("special_tokens_map.json", "3", "not a JSON object"),
    ],
)
def test_a_damaged_small_file_is_named(folder: Path, name: str, text: str, wrong: str) -> None:
    (folder / name).write_text(text)
    problem = problem_of(folder)
    assert problem.startswith(f"{folder / name}: ")
    assert wrong in problem


def test_an_image_processor_that_does_not_pad_is_refused() -> None:
    with pytest.raises(CheckpointError, match="pad_input is false, which is not supported"):
        KimiVLImageProcessor(pad_input=False)


def test_foreign_settings_of_the_image_processor_change_nothing(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(
        '{"preprocess": 1, "patchify": 2, "auto_map": {"a": "b"}, "num_pooled_tokens": 1024}'
    )
    check_checkpoint(folder)
    assert KimiVLImageProcessor.from_folder(folder).tokens(640, 480) == 414
