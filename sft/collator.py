"""Documents of a batch → one packed row, end to end and without padding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..kimi_vl_model.image_processing import KimiVLImageProcessor
from ..problems.types import ImageSource

IGNORED = -100


class PackingCollator:
    """Rows of `data.FEATURES` → the model's keyword arguments.

    Position ids restart at every document; with no attention mask and no cache, that is what
    keeps the documents of a row from seeing each other.
    """

    def __init__(self, image_processor: KimiVLImageProcessor) -> None:
        self.image_processor = image_processor

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """int64 input_ids, position_ids and labels [1, T]; pixel_values f32 [P, 3, 14, 14] and
        image_grid_hws int64 [images, 2] unless no document has an image.

        Raises ProblemError if an image file has become unreadable since the dataset was built.
        """
        documents = [torch.tensor(row["input_ids"], dtype=torch.int64) for row in rows]
        labels = [document.clone() for document in documents]
        for row, document_labels in zip(rows, labels, strict=True):
            document_labels[: -row["reply_tokens"]] = IGNORED
        batch = {
            "input_ids": torch.cat(documents)[None],
            "position_ids": torch.cat([torch.arange(len(ids)) for ids in documents])[None],
            "labels": torch.cat(labels)[None],
        }
        images = [
            ImageSource(image["path"] and Path(image["path"]), image["data"]).open()
            for row in rows
            for image in row["encoded_images"]
        ]
        if images:
            batch.update(self.image_processor.preprocess(images))
        return batch
