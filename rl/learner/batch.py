"""Groups → minibatches → packed tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch

from ...kimi_vl_model.routing import NO_ROUTE
from ...problems.prompt import prompt_parts
from ...problems.types import ImageSource, Problem
from ...rollouts.types import Rollout
from ..types import Batch, Group

Patches = tuple[np.ndarray, tuple[int, int]]


def split_minibatches(groups: Sequence[Group], count: int) -> list[list[Group]]:
    """`count` lists of whole groups of nearly equal number, in order; never an empty one."""
    count = min(count, len(groups))
    bounds = [round(position * len(groups) / count) for position in range(count + 1)]
    return [list(groups[start:stop]) for start, stop in pairwise(bounds)]


def prompt_images(problem: Problem) -> list[ImageSource]:
    """The images in the order in which the prompt shows them."""
    return [part for part in prompt_parts(problem) if isinstance(part, ImageSource)]


def sequence_length(rollout: Rollout) -> int:
    return len(rollout.prompt_token_ids) + len(rollout.response_token_ids)


def split_packs(groups: Sequence[Group], pack_tokens: int) -> list[list[tuple[Group, int]]]:
    """(group, sample) pairs in packs of at most `pack_tokens` tokens.

    A sequence longer than that has a pack of its own. Samples of one group stay neighbours, so
    that the pack computes their image features once.
    """
    packs: list[list[tuple[Group, int]]] = []
    room = 0
    for group in groups:
        for sample, rollout in enumerate(group.rollouts):
            length = sequence_length(rollout)
            if not packs or length > room:
                packs.append([])
                room = pack_tokens
            packs[-1].append((group, sample))
            room -= length
    return packs


def pack(
    members: Sequence[tuple[Group, int]],
    patchify: Callable[[ImageSource], Patches],
    weight_version: int = 0,
) -> Batch:
    """Lay sequences end to end. `patchify` is called once per distinct image of the pack.

    Tokens of segments older than `weight_version` are marked stale.
    """
    input_ids: list[int] = []
    position_ids: list[int] = []
    target_index: list[int] = []
    target_id: list[int] = []
    sequence: list[int] = []
    engine_logprobs: list[float] = []
    stale: list[bool] = []
    advantages: list[float] = []
    patches: list[np.ndarray] = []
    grids: list[tuple[int, int]] = []
    image_index: list[int] = []
    first_image: dict[str, int] = {}
    for number, (group, sample) in enumerate(members):
        rollout = group.rollouts[sample]
        prompt, response = rollout.prompt_token_ids, rollout.response_token_ids
        start = len(input_ids) + len(prompt)
        input_ids += [*prompt, *response]
        position_ids += range(len(prompt) + len(response))
        target_index += range(start - 1, start - 1 + len(response))
        target_id += response
        sequence += [number] * len(response)
        engine_logprobs += rollout.logprobs
        for segment in rollout.segments:
            stale += [segment.weight_version < weight_version] * (segment.stop - segment.start)
        advantages.append(group.advantages[sample])
        if group.problem.id not in first_image:
            first_image[group.problem.id] = len(grids)
            for source in prompt_images(group.problem):
                image_patches, grid = patchify(source)
                patches.append(image_patches)
                grids.append(grid)
        first = first_image[group.problem.id]
        image_index += range(first, first + len(prompt_images(group.problem)))
    return Batch(
        input_ids_T=torch.tensor(input_ids),
        position_ids_T=torch.tensor(position_ids),
        target_index_R=torch.tensor(target_index, dtype=torch.int64),
        target_id_R=torch.tensor(target_id, dtype=torch.int64),
        sequence_R=torch.tensor(sequence, dtype=torch.int64),
        advantage_S=torch.tensor(advantages),
        engine_logprob_R=torch.tensor(engine_logprobs),
        stale_R=torch.tensor(stale, dtype=torch.bool),
        routes_TLk=_routes([group.rollouts[sample] for group, sample in members]),
        pixel_values=torch.from_numpy(np.concatenate(patches)) if patches else None,
        image_grid_hws=torch.tensor(grids) if grids else None,
        image_index=torch.tensor(image_index) if grids else None,
    )


def _routes(rollouts: Sequence[Rollout]) -> torch.Tensor | None:
    """uint8 [T, L, k] of the sequences end to end."""
    shape = next(((r.routes.layers, r.routes.experts) for r in rollouts if r.routes), None)
    if shape is None:
        return None
    rows = []
    for rollout in rollouts:
        routes_TLk = np.full((sequence_length(rollout), *shape), NO_ROUTE, dtype=np.uint8)
        if rollout.routes is not None:
            told = np.frombuffer(rollout.routes.data, dtype=np.uint8)
            routes_TLk[: rollout.routes.tokens] = told.reshape(-1, *shape)
        rows.append(routes_TLk)
    return torch.from_numpy(np.concatenate(rows))
