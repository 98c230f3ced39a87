"""The engines as vLLM's own trainer-side transfer engines see them (backends `nccl`, `ipc`).

Not run yet: it needs GPUs. `shared_memory` is what the tests and the CPU demo use; the calls
behind both are the same four of `RolloutWorker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle


class SyncClient:
    """vLLM's `VLLMWeightSyncClient` over the actors of a fleet, usable in any Ray process.

    On a learner rank, with `actors = fleet.workers` and a vLLM `WeightSource` of published names:

        client = SyncClient(actors, tensor_parallel_size)
        info = NCCLTrainerInitInfo(host, port, client.engine_ranks + 1, rank=rank)
        sender = WeightTransferTrainerFactory.trainer_init(info, client=client, source=source)
        client.version = 1; sender.send_weights()      # on every rank, after every iteration
    """

    def __init__(self, actors: Sequence[ActorHandle], tensor_parallel_size: int = 1) -> None:
        self.actors = actors
        self.ranks_per_engine = tensor_parallel_size
        self.version = 0

    @property
    def engine_ranks(self) -> int:
        return len(self.actors) * self.ranks_per_engine

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        infos = [dict(init_info) for _ in self.actors]
        for index, info in enumerate(infos):
            # vLLM numbers the ranks of one engine only; ours are several beside each other.
            if "rank_offset" in info:
                info["rank_offset"] += index * self.ranks_per_engine
        ray.get(
            [
                actor.init_weight_transfer.remote(info)
                for actor, info in zip(self.actors, infos, strict=True)
            ]
        )

    def start_weight_update(self) -> None:
        ray.get([actor.begin_update.remote() for actor in self.actors])

    def update_weights(self, update_info: dict[str, Any] | list[dict[str, Any]]) -> None:
        ray.get([actor.apply_update.remote(update_info) for actor in self.actors])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        version = self.version if weight_version is None else int(weight_version)
        ray.get([actor.finish_update.remote(version) for actor in self.actors])
