"""What the engine answers → a rollout; only what the engine on CPU never returns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kvl.rollouts.completion import rollout_of
from kvl.rollouts.types import Rollout, Routes

PROMPT = (5, 6, 7)


def answer(routed_experts: np.ndarray | None) -> Any:
    completion = SimpleNamespace(
        token_ids=[1, 2],
        finish_reason="length",
        weight_versions=[],
        logprobs=SimpleNamespace(logprobs=[-1.0, -2.0], start_indices=[0, 1]),
        routed_experts=routed_experts,
    )
    return SimpleNamespace(prompt_token_ids=list(PROMPT), outputs=[completion])


def rollout(routed_experts: np.ndarray | None) -> Rollout:
    return rollout_of(answer(routed_experts), "p", 0, PROMPT, None, str, dense_layers=1)


def test_routes_leave_out_the_dense_layers() -> None:
    # Of four of the five tokens: the last one was never fed to the model.
    routed = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
    routes = rollout(routed).routes
    assert routes == Routes(layers=2, experts=2, data=routed[:, 1:].tobytes())
    assert routes is not None
    assert routes.tokens == 4
    assert rollout(None).routes is None


def test_routes_of_another_number_of_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="routes of 5 tokens for 5"):
        rollout(np.zeros((5, 3, 2), dtype=np.uint8))
