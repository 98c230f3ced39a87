from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from kvl.configs.errors import CheckpointError
from kvl.kimi_vl_model.checkpoint import SINGLE_FILE
from kvl.sft.cli import inspect
from kvl.sft.inspection import PROBLEMS_SHOWN
from safetensors.torch import load_file, save_file

PUBLISHED = Path(__file__).parents[1] / "kimi_vl_model" / "published_config.json"


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def problems(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit, match="1"):
        inspect(folder)
    lines = capsys.readouterr().out.splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith("problem")]


def test_the_published_config_has_the_published_sizes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(PUBLISHED, tmp_path / "config.json")
    with pytest.raises(SystemExit):
        inspect(tmp_path)
    shown = capsys.readouterr().out
    assert "parameters  16,407,656,048\n" in shown
    assert "(2.915 B) for a text token\n" in shown
    assert "64 routed, 6 per token, 2 shared, width 1408" in shown
    # Nothing but the config is there, and each absent part is one problem.
    assert shown.count("problem ") == 3
    assert "holds neither model.safetensors.index.json nor model.safetensors" in shown


def test_a_sound_checkpoint_shows_dtypes_and_special_ids(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect(checkpoint)
    shown = capsys.readouterr().out
    assert "problem" not in shown
    assert "132 in files of 0.01 GB: 132 float32" in shown
    first = json.loads((checkpoint / "config.json").read_text())["text_config"]["bos_token_id"]
    assert f"[BOS] {first}, [EOS] {first + 1}, <|im_end|> {first + 2}" in shown
    assert f"stops at {first + 1} and {first + 2}" in shown
    assert "kv_a_layernorm 1e-06, others 1e-05" in shown


def test_every_problem_is_listed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(copy / SINGLE_FILE)
    del tensors["language_model.lm_head.weight"]
    tensors["vision_tower.patch_embed.proj.bias"] = torch.zeros(7)
    save_file({**tensors, "odd": torch.zeros(1)}, copy / SINGLE_FILE)
    config = json.loads((copy / "config.json").read_text())
    config["media_placeholder_token_id"] += 1
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "preprocessor_config.json").write_text('{"patch_size": 16}')
    found = problems(copy, capsys)
    for part in (
        f"{copy / SINGLE_FILE}: tensor odd is not part",
        f"{copy / SINGLE_FILE}: tensor language_model.lm_head.weight is missing",
        "proj.bias has shape (7,), the config asks for (96,)",
        "media_placeholder_token_id is",
        "patch_size 16, config.json has vision_config.patch_size 14",
    ):
        assert any(part in problem for problem in found), part
    assert len(found) == 5


def test_another_architecture_is_many_problems_and_a_short_list(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["text_config"]["hidden_size"] = 64
    (copy / "config.json").write_text(json.dumps(config))
    assert len(problems(copy, capsys)) == PROBLEMS_SHOWN


def test_a_folder_without_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: missing"):
        inspect(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("preprocessor_config.json", "[1]", "not a JSON object"),
        ("tiktoken.model", "zz\n", "damaged"),
        ("generation_config.json", "{", "not valid JSON"),
        ("generation_config.json", '{"eos_token_id": [300, 99999]}', "is no id below vocab_size"),
        ("generation_config.json", '{"eos_token_id": [300, "x"]}', "eos_token_id.1 should be"),
        ("tokenizer_config.json", '{"tokenizer_class":', "not valid JSON"),
    ],
)
def test_a_damaged_small_file_is_a_problem(
    copy: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, expected: str
) -> None:
    (copy / file).write_text(text)
    (problem,) = problems(copy, capsys)
    assert file in problem
    assert expected in problem


def test_a_config_whose_section_is_no_object_is_an_error(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"text_config": "x"}))
    with pytest.raises(CheckpointError, match="text_config is not a JSON object"):
        inspect(copy)
