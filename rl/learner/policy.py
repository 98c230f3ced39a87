"""The policy as the learner calls it: a packed batch in, log-probabilities out."""

from __future__ import annotations

import torch
from torch import nn

from ...kimi_vl_model.logprobs import token_logprobs
from ...kimi_vl_model.modeling import KimiVLForConditionalGeneration
from .batch import Batch


class Policy(nn.Module):
    """Wraps the model so that data-parallel wrappers see one `forward`.

    The distribution is the one the engine samples from: the same temperature, and zero
    probability for the ids that sampling bans. With `routing_replay` tokens go to the experts that
    the batch names (R3, arXiv 2510.11370); their gates, and the router's gradient, are its own.
    """

    def __init__(
        self,
        model: KimiVLForConditionalGeneration,
        banned_ids: tuple[int, ...],
        temperature: float,
        chunk: int,
        routing_replay: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.banned_ids = nn.Buffer(torch.tensor(banned_ids, dtype=torch.int64), persistent=False)
        self.temperature = temperature
        self.chunk = chunk
        self.routing_replay = routing_replay

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """log π(token) and entropy (detached) of each response token, both f32 [R]."""
        hidden = self.model.hidden_states(
            batch.input_ids_T[None],
            pixel_values=batch.pixel_values,
            image_grid_hws=batch.image_grid_hws,
            image_index=batch.image_index,
            documents=batch.documents,
            routes=batch.routes_TLk if self.routing_replay else None,
        )[0]
        return token_logprobs(
            hidden[batch.target_index_R],
            self.model.language_model.lm_head.weight,
            batch.target_id_R,
            banned_ids=self.banned_ids,
            temperature=self.temperature,
            chunk=self.chunk,
        )
