"""vLLM's schedulers, for engines whose weights change while requests wait and run."""

from __future__ import annotations

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler


class WeightScheduler(Scheduler):
    """Forgets with the image embeddings of old weights the prefix blocks that they computed.

    vLLM resets its prefix cache only when no request holds a block. But a request that is still
    waiting when the weights change carries the salt of the old ones and would go on from their
    keys and values. Here nothing of theirs can be found any more; requests that run keep their
    own blocks.
    """

    def reset_encoder_cache(self) -> None:
        super().reset_encoder_cache()
        blocks = self.kv_cache_manager.block_pool.blocks
        cached = {block.block_id for block in blocks if block.block_hash is not None}
        self.kv_cache_manager.evict_blocks(cached)


class WeightAsyncScheduler(WeightScheduler, AsyncScheduler):
    """The same where steps overlap."""
