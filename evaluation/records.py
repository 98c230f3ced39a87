"""Graded responses as JSON lines: one schema for transcripts, evaluations and distillation.

A line is a group: its problem once, and its responses.

    id, family, level, question, options, answer   of the problem
    images       where each lies; one that came as bytes is written beside the file once, by hash
    responses    of each: sample, text, tokens, stop_reason, outcome, extracted (the committed
                 answer), span (its character offsets in text), reason, parts and reward, advantage
                 (null: not trained on), versions (oldest and newest weights that sampled it) and
                 temperature
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..configs.files import write_atomically
from ..problems import pictures
from ..problems.types import ImageSource
from .types import GradedResponse, Group

Record = dict[str, Any]


def write_transcripts(folder: Path, iteration: int, groups: Sequence[Group], limit: int) -> None:
    """The first `limit` groups of an iteration, one per line."""
    if limit <= 0 or not groups:
        return
    lines = [json.dumps(group_record(group, folder)) + "\n" for group in groups[:limit]]
    write_atomically(folder / f"iteration_{iteration:06d}.jsonl", "".join(lines))


def group_record(group: Group, folder: Path) -> Record:
    problem = group.problem
    return {
        "id": problem.id,
        "family": problem.family,
        "level": problem.level,
        "question": problem.question,
        "options": list(problem.options),
        "images": [image_reference(image, folder) for image in problem.images],
        "answer": problem.gold,
        "responses": [response_record(one) for one in group.responses],
    }


def response_record(response: GradedResponse) -> Record:
    rollout, verdict = response.rollout, response.verdict
    return {
        "sample": rollout.sample,
        "text": rollout.text,
        "tokens": response.tokens,
        "stop_reason": rollout.stop_reason.value,
        "outcome": verdict.outcome.value,
        "extracted": verdict.extracted,
        "span": verdict.span,
        "reason": verdict.reason,
        "parts": dict(verdict.parts),
        "reward": response.reward,
        "advantage": response.advantage,
        "versions": list(rollout.weight_versions) if rollout.segments else None,
    }


def image_reference(image: ImageSource, folder: Path) -> str:
    """Where the image lies; one that came as bytes is written beside the records once."""
    if image.path is not None:
        return str(image.path.resolve())
    data = image.read()
    name = f"images/{hashlib.sha256(data).hexdigest()[:16]}.{_image_format(data)}"
    path = folder / name
    if not path.exists():
        write_atomically(path, data)
    return name


def _image_format(data: bytes) -> str:
    try:
        return (pictures.opened(data).format or "bin").lower()
    except Exception:  # Pillow raises all sorts on broken files
        return "bin"
