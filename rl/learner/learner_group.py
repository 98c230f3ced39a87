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
from ...configs.system.threads import THREAD_SETTINGS
from ...rollouts.fleet import Fleet
from ...rollouts.placement import Placement, needs_of, reserve
from .batch import TokenSequence
from .learner import Learner
from .measures import Measures, total
from .parallelism import RankAddress


class LearnerError(KVLError):
    """A learner rank died or failed; the run can be resumed from its last checkpoint."""


class LearnerRank(Learner):
    """Built by a call of its own: an error that an actor's constructor raises loses its type."""

    def __init__(self, config: RLConfig) -> None:
        self._config = config

    def endpoints(self) -> tuple[str, int, int]:
        """This node's address, and a free port there for each of two rendezvous."""
        meeting, transfer = _free_ports(2)
        return ray.util.get_node_ip_address(), meeting, transfer

    def start(self, address: RankAddress) -> None:
        super().__init__(self._config, address)


class LearnerGroup:
    """World size comes from the config. Every call goes to all ranks and returns when all are
    done. Raises LearnerError naming the rank when its process died.

    The ranks start in the bundles of `placement`, the fleet's; without one they get their own.
    """

    def __init__(self, config: RLConfig, placement: Placement | None = None) -> None:
        world = config.learner.world_size
        self._own_placement = None
        if placement is None:
            placement = reserve(needs_of(None, world, ray.cluster_resources()))
            self._own_placement = placement
        actor = ray.remote(max_restarts=0, runtime_env={"env_vars": THREAD_SETTINGS})(LearnerRank)
        self.ranks: list[Any] = [
            actor.options(**placement.rank(rank)).remote(config) for rank in range(world)
        ]
        # Where rank 0 is, and not the driver, all ranks and engines meet.
        (host, port, transfer_port), *_ = self._all(lambda rank: rank.endpoints.remote())
        self.transfer_endpoint = host, transfer_port
        addresses = iter([RankAddress(rank, world, host, port) for rank in range(world)])
        self._all(lambda rank: rank.start.remote(next(addresses)))

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
        if self._own_placement is not None:
            self._own_placement.release()

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


def _free_ports(count: int) -> tuple[int, ...]:
    """Different ones: all are held until the last is found."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("", 0))
        return tuple(probe.getsockname()[1] for probe in probes)
    finally:
        for probe in probes:
            probe.close()
