"""metrics.jsonl survives kills and says what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kvl.configs.errors import FileError, KVLError
from kvl.run_files.metrics_file import MetricsFile, read_lines


@pytest.fixture
def metrics(tmp_path: Path) -> MetricsFile:
    return MetricsFile(tmp_path / "metrics.jsonl", "step")


def test_a_resumed_run_goes_on_after_the_step_it_has(metrics: MetricsFile) -> None:
    assert metrics.continue_after(0) == []
    for step in (1, 2, 3):
        metrics.append({"step": step, "loss": 0.5})
    with metrics.path.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [record["step"] for record in metrics.continue_after(2)] == [1, 2]
    metrics.append({"step": 3})
    assert [record["step"] for record in metrics.read()] == [1, 2, 3]
    assert metrics.path.read_bytes().count(b"\n") == 3


def test_numbers_that_json_cannot_hold_are_null(metrics: MetricsFile) -> None:
    values = [float("nan"), np.float32("inf"), torch.tensor(2.5), np.int64(3), None, 7]
    record = metrics.append({"step": 1} | {str(n): value for n, value in enumerate(values)})
    assert json.loads(metrics.path.read_text()) == record
    assert list(record.values()) == [1, None, None, 2.5, 3.0, None, 7]


@pytest.mark.parametrize("line", ["garbage", "[1]", '{"loss": 1}', "[" * 100_000, '{"step": "1"}'])
def test_a_line_that_is_no_record_is_named_and_not_lost(metrics: MetricsFile, line: str) -> None:
    text = f'{{"step": 1}}\n{line}\n{{"step": 2}}\n'
    metrics.path.write_text(text)
    with pytest.raises(KVLError, match=r"metrics.jsonl:2: is no record of a step; mend"):
        metrics.continue_after(2)
    assert metrics.path.read_text() == text
    assert [record["step"] for record in metrics.read()] == [1, 2]


def test_a_folder_in_its_place_is_one_line(metrics: MetricsFile) -> None:
    metrics.path.mkdir()
    for call in (metrics.read, lambda: metrics.continue_after(1), lambda: metrics.append({})):
        with pytest.raises(FileError, match=r"metrics.jsonl: cannot be (read|written): Is a dir"):
            call()


def test_bytes_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b'\xff\xfe\n{"a": 1}\n\0\0\0')
    assert read_lines(tmp_path / "a") == [{"a": 1}]
