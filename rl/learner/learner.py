"""One learner rank: holds the policy, recomputes log π_i, takes the optimizer steps.

Runs inside a Ray actor (`learner_group.py`), but knows nothing of Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ...configs.rl import RLConfig
from ...kimi_vl_model.image_processing import KimiVLImageProcessor
from ...kimi_vl_model.modeling import KimiVLForConditionalGeneration
from ...kimi_vl_model.parallel.optimizer import ShardedOptimizer, clip_gradients
from ...kimi_vl_model.parallel.saved_state import load_state, save_state
from ...kimi_vl_model.processing import KimiVLProcessor
from ...kimi_vl_model.routing import routing_disagreement
from ...kimi_vl_model.tokenization import banned_ids, load_tokenizer
from ...kimi_vl_model.tuning.adapters import add_adapters
from ...kimi_vl_model.tuning.freezing import freeze
from ...problems.types import ImageSource
from ..schedule import learning_rate, temperature
from .batch import Batch, TokenSequence, pack, split_minibatches, split_packs
from .corrections import Corrections, corrections
from .demonstrations import Demonstrations
from .measures import FAR, Measures, reference_measures, total
from .objectives import ObjectiveInputs, find, settings_of
from .outgoing_weights import PolicyWeights
from .parallelism import RankAddress, join_process_group, place_policy, without_sync
from .policy import Policy

RECENT_IMAGES = 16


@dataclass(slots=True)
class _Pack:
    batch: Batch
    weight: float  # 0 for a repeated pack that only keeps ranks in step
    reference_logprob_R: torch.Tensor | None = None
    corrections: Corrections | None = None


class Learner:
    """The policy on one rank. All ranks must call the same methods in the same order."""

    def __init__(self, config: RLConfig, address: RankAddress) -> None:
        self.config = config
        self.address = address
        self.device = join_process_group(address)
        if config.learner.precision.threads:
            torch.set_num_threads(config.learner.precision.threads)
        self.image_processor = KimiVLImageProcessor.from_folder(config.checkpoint)
        self.policy = place_policy(config, address, self.device, self._prepare)
        self.weights = PolicyWeights(self.unwrapped.model, self.adapters, address)
        self.optimizer = ShardedOptimizer(self.unwrapped.model, config.learner.optimizer)
        self.objective, _config = find(config.objective.name)
        self.objective_settings = settings_of(config.objective)
        self.demonstrations = None
        if config.ptx is not None:
            processor = KimiVLProcessor.from_pretrained(config.checkpoint)
            self.demonstrations = Demonstrations(config.ptx, processor)
        self.iteration = 0
        self.minibatches: list[list[_Pack]] = []

    def _prepare(self, model: KimiVLForConditionalGeneration) -> Policy:
        """What training calls, out of a model that may have no memory yet."""
        learner = self.config.learner
        if learner.activation_checkpointing:
            model.gradient_checkpointing_enable()
        freeze(model, learner.freeze)
        # After loading, so that adapters start alike on all ranks whatever loading drew.
        torch.manual_seed(self.config.seed)
        self.adapters = None if learner.lora is None else add_adapters(model, learner.lora)
        self.unwrapped = Policy(
            model,
            banned_ids(load_tokenizer(self.config.checkpoint)),
            self.config.rollout.temperature,
            chunk=learner.logprob_chunk,
            routing_replay=self.config.correction.routing_replay,
        )
        return self.unwrapped.train()

    # -- one iteration -------------------------------------------------------------------------

    def take(self, groups: Sequence[Sequence[TokenSequence]], iteration: int) -> Measures:
        """Pack this rank's share of the iteration and recompute log π_i with the training
        kernels; what the engine reported serves comparison and corrections only.

        `groups` are the sequences of each group; a minibatch holds whole groups.
        """
        self._begin(iteration)
        self.minibatches = [
            self._packs([one for group in minibatch for one in group], iteration)
            for minibatch in split_minibatches(groups, self.config.learner.minibatches)
        ]
        measured = []
        for packed in (packed for minibatch in self.minibatches for packed in minibatch):
            batch = packed.batch
            with torch.no_grad():
                reference_R, entropy_R = self.policy(batch)
            packed.reference_logprob_R = reference_R
            weights = packed.corrections = corrections(
                reference_R,
                batch.engine_logprob_R,
                batch.sequence_R,
                batch.stale_R,
                batch.sequences,
                self.config.correction,
            )
            if packed.weight:
                rerouted = self._disagreement(batch)
                far = FAR * self.config.tolerance
                measured.append(
                    reference_measures(batch, reference_R, entropy_R, weights, rerouted, far)
                )
        return total(measured)

    def update(self, first_step: int) -> Measures:
        """Several optimizer steps on the groups taken last; π_i stays fixed throughout.

        A step whose loss or gradient norm is not finite is left out, on all ranks alike, so that
        the weights stay finite. `first_step` counts the run's optimizer steps before this
        iteration: demonstrations go on where they were, however many steps an iteration has.

        This rank's share of: learner_tokens; sequences, clipped (what the objective gave no policy
        gradient), ell_sum and the sums over steps of loss and ptx_loss, all but the first without
        skipped steps. Equal on all ranks: the sum of grad_norm, steps taken and steps_skipped.
        """
        self.optimizer.learning_rate = learning_rate(self.config, self.iteration)
        world = self.address.world_size
        measured = Measures()
        norms, skipped = 0.0, 0
        for step, minibatch in enumerate(self.minibatches):
            *counts, images = self._global_counts(minibatch)
            documents = (
                [] if self.demonstrations is None else self.demonstrations.at(first_step + step)
            )
            own = Measures({"ptx_loss": self._ptx_backward(documents)})
            for position, packed in enumerate(minibatch):
                last = position == len(minibatch) - 1
                with nullcontext() if last else without_sync(self.policy):
                    logprob_R, _entropy = self.policy(packed.batch)
                    output = self.objective(
                        _objective_inputs(packed, logprob_R, *counts), self.objective_settings
                    )
                    # Ranks average gradients; the loss already is a share of the global mean.
                    (output.loss * packed.weight * world).backward()
                if packed.weight:
                    measured += Measures({"learner_tokens": packed.batch.input_ids_T.numel()})
                    own += Measures(
                        {
                            "loss": float(output.loss.detach()),
                            "ell_sum": float(output.ell_S.sum()),
                            "clipped": output.clipped,
                            "sequences": packed.batch.sequences,
                        },
                        {"ell_max": float(output.ell_S.abs().max())},
                    )
            if not images and not any(document.images for document in documents):
                self.unwrapped.model.forget_blank_images()
            norm = clip_gradients(
                self.policy.parameters(), self.config.learner.optimizer.max_grad_norm
            )
            if self._all_finite(norm, own["loss"], own["ptx_loss"]):
                measured += own
                norms += norm
                self.optimizer.step()
            else:
                skipped += 1
            self.optimizer.zero_grad()
        if self.config.learner.reset_optimizer:
            # Moments and step counts; the learning rate keeps its position.
            self.optimizer.replace_state({})
        steps = len(self.minibatches) - skipped
        return measured + Measures(
            maxima={"grad_norm": norms, "steps": steps, "steps_skipped": skipped}
        )

    def _all_finite(self, *values: float) -> bool:
        """Whether these are finite on every rank."""
        finite = all(map(isfinite, values))
        if self.address.world_size == 1:
            return finite
        broken = torch.tensor(float(not finite), device=self.device)
        dist.all_reduce(broken)
        return not float(broken)

    def _ptx_backward(self, sequences: Sequence[TokenSequence]) -> float:
        """Gradients of the supervised term; returns this rank's share of the mean token loss."""
        if self.demonstrations is None:
            return 0.0
        count = sum(len(sequence.response_token_ids) for sequence in sequences)
        loss = 0.0
        for packed in self._packs(sequences, 0):
            # The policy's own minibatch follows, and its last pack synchronises the ranks.
            with without_sync(self.policy):
                logprob_R, _entropy = self.policy(packed.batch)
                mean = -logprob_R.sum() / count * packed.weight
                scale = self.demonstrations.config.coefficient * self.address.world_size
                (mean * scale).backward()
            loss += float(mean.detach())
        return loss

    def score(self, sequences: Sequence[TokenSequence], iteration: int) -> list[float]:
        """|log π − log μ| of every response token of a few probes, in their order."""
        self._begin(iteration)
        differences: list[float] = []
        for members in split_packs(sequences, self.config.learner.pack_tokens):
            batch = self._to_device(pack(members, self._patchify))
            with torch.no_grad():
                logprob_R, _entropy = self.policy(batch)
            difference_R = (logprob_R - batch.engine_logprob_R).abs()
            # A NaN from either side must not pass as agreement.
            differences += difference_R.nan_to_num(nan=float("inf")).tolist()
        return differences

    # -- weights and state ---------------------------------------------------------------------

    def next_weights(self) -> dict[str, Any] | None:
        """The next bucket of weights for the engines, or None after the last one."""
        return self.weights.next_bucket()

    def send_weights(self, actors: Sequence[Any], version: int, host: str, port: int) -> None:
        """Broadcast the weights over vLLM's nccl or ipc backend instead (GPU only)."""
        self.weights.send(actors, self.config.rollout.engine, version, host, port)

    def export(self, folder: Path, adapter: Path) -> None:
        """Write the policy in the published layout and, with LoRA, its adapters, from rank 0."""
        self.weights.export(self.config.checkpoint, folder, adapter)

    def save_state(self, folder: Path) -> None:
        """Trained tensors in training precision and the optimizer's state; nothing random is left
        in training, so a run goes on bit for bit with as many ranks, and with others too."""
        save_state(folder, self.unwrapped.model, self.optimizer)

    def load_state(self, folder: Path) -> None:
        """Raises CheckpointError if the folder was written with other adapters or frozen parts."""
        load_state(folder, self.unwrapped.model, self.optimizer)

    # -- parts ---------------------------------------------------------------------------------

    def _begin(self, iteration: int) -> None:
        self.iteration = iteration
        self.unwrapped.temperature = temperature(self.config, iteration)

    def _packs(self, sequences: Sequence[TokenSequence], weight_version: int) -> list[_Pack]:
        members = split_packs(sequences, self.config.learner.pack_tokens)
        # Samples of a group are neighbours: a few recent images are all that packs share.
        patchify = lru_cache(maxsize=RECENT_IMAGES)(self._patchify)
        world, rank = self.address.world_size, self.address.rank
        rounds = -(-len(members) // world)
        packs = []
        for turn in range(rounds):
            index = turn * world + rank
            # A rank without work of its own in the last round repeats a pack at weight 0:
            # every rank must run as many forward passes as the others.
            weight = float(index < len(members))
            chosen = members[index] if weight else members[0]
            batch = pack(chosen, patchify, weight_version)
            packs.append(_Pack(self._to_device(batch), weight))
        return packs

    def _global_counts(self, minibatch: Sequence[_Pack]) -> tuple[int, int, int]:
        """Sequences, response tokens and packs with images of the minibatch over all ranks."""
        own = [packed.batch for packed in minibatch if packed.weight]
        counts = (
            sum(batch.sequences for batch in own),
            sum(batch.target_id_R.numel() for batch in own),
            sum(batch.pixel_values is not None for batch in own),
        )
        if self.address.world_size == 1:
            return counts
        total = torch.tensor(counts, device=self.device)
        dist.all_reduce(total)
        sequences, tokens, images = total.tolist()
        return sequences, tokens, images

    def _disagreement(self, batch: Batch) -> tuple[int, int]:
        """Between the engine's routes and the choices of the policy's last forward pass, where the
        logits of fresh response tokens were computed."""
        if batch.routes_TLk is None:
            return 0, 0
        where = batch.target_index_R[~batch.stale_R]
        return routing_disagreement(self.policy, batch.routes_TLk, where)

    def _patchify(self, source: ImageSource):
        return self.image_processor.patchify(source.open())

    def _to_device(self, batch: Batch) -> Batch:
        return batch.to(self.device)


def _objective_inputs(
    packed: _Pack, logprob_R: torch.Tensor, sequence_count: int, token_count: int
) -> ObjectiveInputs:
    assert packed.reference_logprob_R is not None
    assert packed.corrections is not None
    return ObjectiveInputs(
        logprob_R=logprob_R,
        reference_logprob_R=packed.reference_logprob_R,
        advantage_S=packed.batch.advantage_S,
        sequence_R=packed.batch.sequence_R,
        token_weight_R=packed.corrections.token_weight_R,
        keep_R=packed.corrections.keep_R,
        sequence_weight_S=packed.corrections.sequence_weight_S,
        sequence_count=sequence_count,
        token_count=token_count,
    )
