"""The schemas that editors read: those of the code, and of one mind with the loader."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from kvl.configs.loading import PRESETS, dump_config, load_config, preset_names
from kvl.configs.rl import RLConfig
from kvl.configs.schema import schema_text
from kvl.configs.sft import SFTConfig
from kvl.configs.text import yaml_text

MODELS = {"rl": RLConfig, "sft": SFTConfig}
MINIMAL = "run_dir: r\ncheckpoint: c\nproblems: {path: p.jsonl}\n"


def faults(kind: str, text: str) -> list[str]:
    schema = json.loads((PRESETS / f"{kind}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    tree = yaml_text.read(text).tree
    return [error.message for error in Draft202012Validator(schema).iter_errors(tree)]


@pytest.mark.parametrize("kind", MODELS)
def test_the_committed_schema_is_that_of_the_code(kind):
    committed = (PRESETS / f"{kind}.schema.json").read_text(encoding="utf-8")
    renew = f"write it anew: kvl-{kind} schema > configs/{kind}.schema.json"
    assert committed == schema_text(MODELS[kind]), renew


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_points_to_its_schema_and_fits_it(name):
    path = PRESETS / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    prefix, _, target = text.splitlines()[0].partition("=")
    kind = name.partition("/")[0]
    assert prefix == "# yaml-language-server: $schema"
    assert (path.parent / target).resolve() == PRESETS / f"{kind}.schema.json"
    assert faults(kind, text) == []
    assert faults(kind, dump_config(load_config(path, MODELS[kind]))) == []


@pytest.mark.parametrize(
    "extra",
    [
        "objective: {name: grpo, clip_low: 0.1}",
        "objective: {tau: 0.1}",
        "objective: {name: 'mine:f', anything: 1}",
        "rewards: [{type: length, weight: 0.5, min_spread: 3}]",
        "evaluation: null",
        "iterations: ${N:-3}",
        "rollout: {temperature: '${T}'}",
        "problems: [{path: a.jsonl}, {path: b.jsonl, weight: 2}]",
    ],
)
def test_what_the_loader_takes_fits_the_schema(extra):
    lines = [line for line in MINIMAL.splitlines() if line.split(":")[0] != extra.split(":")[0]]
    assert faults("rl", "\n".join([*lines, extra])) == []


@pytest.mark.parametrize(
    "extra",
    [
        "iteratons: 3",
        "iterations: many",
        "iterations: 0",
        "rollout: {workrs: 1}",
        "learner: {optimizer: {name: sgd}}",
        "objective: {name: grpo, tau: 0.1}",
        "objective: {name: nosuch}",
        "trackers: [tensorbord]",
    ],
)
def test_what_the_loader_refuses_is_underlined(extra):
    assert faults("rl", f"{MINIMAL}{extra}\n")


def test_the_schemas_are_part_of_the_package():
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    settings = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert "*.schema.json" in settings["package-data"]["kvl.configs"]
