"""Which parameters train, by the names a config uses."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

from ...configs.common import ParameterGroup

_MEMBERS: dict[ParameterGroup, str] = {
    "vision_tower": r"^vision_tower\.",
    "projector": r"^multi_modal_projector\.",
    "router": r"\.mlp\.gate\.weight$",
    "embeddings": r"\.embed_tokens\.",
    "experts": r"\.mlp\.experts\.",
}


def freeze(model: nn.Module, groups: Sequence[ParameterGroup]) -> None:
    """Take the parameters of these groups out of training.

    `experts` are the routed ones, `embeddings` the input table (the LM head is a matrix of its
    own). The router's selection bias is no parameter and belongs to no group.
    """
    for name, parameter in model.named_parameters():
        if any(re.search(_MEMBERS[group], name) for group in groups):
            parameter.requires_grad_(False)
