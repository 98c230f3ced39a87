"""The examples of docs/data.md are what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import make_layouts
import pytest
import yaml
from kvl.configs.common import ProblemSource
from kvl.problems.layouts.known import KNOWN, OWN
from kvl.problems.layouts.qa import NAMES
from kvl.problems.loading import load_problems
from kvl.problems.reading import problem_files

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
EXAMPLES = {
    section.partition("\n")[0]: section
    for section in TEXT.partition("## Layouts")[2].split("\n### ")[1:]
}


def test_every_layout_and_every_field_is_in_the_docs() -> None:
    known = {OWN, *(layout.name for layout in KNOWN), "columns: mapping"}
    assert set(EXAMPLES) == known
    assert re.findall(r"`(\w+)`", TEXT.partition("\nFields: ")[2]) == list(NAMES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_recognised_and_loads(tmp_path: Path, name: str) -> None:
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", EXAMPLES[name], re.DOTALL))
    columns = yaml.safe_load(blocks.get("yaml", "problems: {}"))["problems"].get("columns", {})
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(json.loads(blocks["json"])) + "\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/bars.png").write_bytes(make_layouts.png(3))
    (file,) = problem_files(path, columns)
    problems, skipped = load_problems(ProblemSource(path=path, columns=columns))
    assert (file.layout_name, len(problems), skipped) == (name, 1, [])
    assert len(problems[0].images) == ("bars.png" in blocks["json"])
