"""The learner's ranks as Ray actors, called as one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from ...configs.errors import KVLError
from ...configs.rl import RLConfig
from ...configs.threads import THREAD_SETTINGS
from ...rollouts.fleet import Fleet
from .batch import TokenSequence
from .learner import Learner
from .measures import Measures, total
from .parallelism import RankAddress


class LearnerError(KVLError):
    """A learner rank died or failed; the run can be resumed from its last checkpoint."""


class LearnerRank(Learner):
    """Built by a call of its own: an error that an actor's constructor raises loses its type."""

    def __init__(self, config: RLConfig, address: RankAddress) -> None:
        self._arguments = config, address

    def start(self) -> None:
        super().__init__(*self._arguments)


class LearnerGroup:
    """World size comes from the config. Every call goes to all ranks and returns when all are
    done. Raises LearnerError naming the rank when its process died."""

    def __init__(self, config: RLConfig) -> None:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= config.learner.world_size else 0
        actor = ray.remote(
            num_cpus=1, num_gpus=gpus, max_restarts=0, runtime_env={"env_vars": THREAD_SETTINGS}
        )(LearnerRank)
        world = config.learner.world_size
        host, port = ray.util.get_node_ip_address(), _free_port()
        self.transfer_endpoint = host, _free_port()
        self.ranks: list[Any] = [
            actor.remote(config, RankAddress(rank, world, host, port)) for rank in range(world)
        ]
        self._all(lambda rank: rank.start.remote())

    def take(self, groups: Sequence[Sequence[TokenSequence]], iteration: int) -> Measures:
        """Added up over ranks; see `Learner.take`."""
        shared = ray.put([list(group) for group in groups])
        return total(self._all(lambda rank: rank.take.remote(shared, iteration)))

    def update(self, first_step: int) -> Measures:
        """Added up over ranks; see `Learner.update`."""
        return total(self._all(lambda rank: rank.update.remote(first_step)))

    def score(self, sequences: Sequence[TokenSequence], iteration: int) -> list[float]:
        """The largest over ranks, token by token; see `Learner.score`."""
        scored = self._all(lambda rank: rank.score.remote(list(sequences), iteration))
        return [max(differences) for differences in zip(*scored, strict=True)]

    def weights(self) -> Iterator[dict[str, Any]]:
        """Buckets of the current weights, one alive at a time."""
        while (bucket := self._all(lambda rank: rank.next_weights.remote())[0]) is not None:
            yield bucket

    def send_weights(self, fleet: Fleet, version: int) -> None:
        """All ranks broadcast to the fleet's engines; see `Learner.send_weights`."""
        host, port = self.transfer_endpoint
        actors = fleet.workers
        self._all(lambda rank: rank.send_weights.remote(actors, version, host, port))

    def export(self, folder: Path, adapter: Path) -> None:
        """See `Learner.export`."""
        self._all(lambda rank: rank.export.remote(folder, adapter))

    def save_state(self, folder: Path) -> None:
        self._all(lambda rank: rank.save_state.remote(folder))

    def load_state(self, folder: Path) -> None:
        self._all(lambda rank: rank.load_state.remote(folder))

    def close(self) -> None:
        for rank in self.ranks:
            ray.kill(rank)

    def _all(self, call: Callable[[ActorHandle], Any]) -> list[Any]:
        try:
            return ray.get([call(rank) for rank in self.ranks])
        except RayTaskError as error:
            if isinstance(error.cause, KVLError):
                raise error.cause from None
            raise
        except RayActorError as error:
            raise LearnerError(
                f"a learner rank died ({error}); run the same command again to resume"
            ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
