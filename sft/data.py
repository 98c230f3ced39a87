"""Problems with a written solution → tokenised documents in a `datasets.Dataset`.

A document is the chat turn of one problem and the reply that solves it. Rows hold token ids and
the still encoded images, so a row costs about what its file costs; pixels exist only in a batch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from ..configs.errors import KVLError
from ..configs.system.files import write_atomically
from ..kimi_vl_model.processing import KimiVLProcessor
from ..problems.prompt import prompt_parts, target_text
from ..problems.types import ImageSource, Problem, ProblemError, Skipped

FEATURES = Features(
    {
        "id": Value("string"),
        "input_ids": List(Value("int32")),
        "reply_tokens": Value("int32"),
        "encoded_images": List({"path": Value("string"), "data": Value("binary")}),
    }
)


class _Unusable(Exception):
    """A problem that makes no document: a kind to count, and the detail for the report."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")


def encode_document(
    problem: Problem, processor: KimiVLProcessor, max_tokens: int
) -> dict[str, Any]:
    """One row of `FEATURES`: the ids of user turn and reply, images in prompt order.

    `reply_tokens` counts the trailing ids that carry loss: the reply and its `<|im_end|>`.
    Every image is decoded once here, because a truncated file has a healthy header.
    """
    if not (problem.solution or "").strip():
        raise _Unusable("no solution", "the problem has no written solution to learn from")
    try:
        parts = prompt_parts(problem)
        images = [part for part in parts if isinstance(part, ImageSource)]
        reply = processor.chat.assistant_reply(target_text(problem))
    except ProblemError as error:
        raise _Unusable("bad record", str(error)) from error
    try:
        counted = [
            part if isinstance(part, str) else processor.image_processor.tokens(*part.open().size)
            for part in parts
        ]
    except ProblemError as error:
        raise _Unusable("unusable image", str(error)) from error
    prompt = processor.chat.user_turn(counted)
    if (length := len(prompt) + len(reply)) > max_tokens:
        raise _Unusable("too long", f"{length} tokens, max_tokens is {max_tokens}")
    return {
        "id": problem.id,
        "input_ids": np.asarray(prompt + reply, dtype=np.int32),
        "reply_tokens": len(reply),
        "encoded_images": [
            {"path": None if image.path is None else str(image.path), "data": image.data}
            for image in images
        ],
    }


def build_dataset(
    problems: Iterable[Problem], processor: KimiVLProcessor, max_tokens: int
) -> tuple[Dataset, list[Skipped]]:
    """All documents that fit, in problem order, and what was left out with `kind: detail` reasons.

    Raises KVLError when nothing is left to train on.
    """
    rows: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    for problem in problems:
        try:
            rows.append(encode_document(problem, processor, max_tokens))
        except _Unusable as error:
            skipped.append(Skipped(problem.id, str(error)))
    if not rows:
        raise KVLError(f"no document to train on: {skip_counts(skipped) or 'no problems'}")
    return Dataset.from_list(rows, features=FEATURES), skipped


def skip_counts(skipped: Sequence[Skipped]) -> str:
    """`3 too long, 1 no solution`: counts by the kind that starts each reason."""
    kinds = Counter(record.reason.partition(":")[0] for record in skipped)
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def write_skipped(skipped: Sequence[Skipped], path: Path) -> None:
    """One JSON line (id, reason) per record left out; an empty file says that nothing was."""
    lines = (json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in skipped)
    write_atomically(path, "".join(lines))
