"""What vLLM must know about this project, in every process it starts.

vLLM calls `register` through the `vllm.general_plugins` entry point: in the actor that owns the
engine, in the engine process, and in tensor-parallel workers.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading

OWNER_VARIABLE = "KVL_ENGINE_OWNER"
_registered = False


def register() -> None:
    """Idempotent. Registers the model, its tokenizer and processor, and the weight transfer."""
    global _registered
    if _registered:
        return
    _registered = True

    # Without triton torch says so once per process; nothing on a CPU needs it.
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    # Of every layer that an update leaves out, as those of adapters do; the probe after each sync
    # would notice one that is missing.
    logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").addFilter(
        lambda record: "Failed to load weights" not in record.getMessage()
    )
    die_with_owner()

    from transformers import AutoProcessor, AutoTokenizer
    from vllm import ModelRegistry
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
    from vllm.transformers_utils.configs.kimi_vl import KimiVLConfig

    from ..kimi_vl_model.processing import KimiVLProcessor
    from .vllm_model import KimiVLForConditionalGeneration, KimiVLTokenizer

    # The class itself, not its name: a name makes vLLM start a process only to inspect it.
    ModelRegistry.register_model("KimiVLForConditionalGeneration", KimiVLForConditionalGeneration)
    AutoTokenizer.register(KimiVLConfig, fast_tokenizer_class=KimiVLTokenizer, exist_ok=True)
    AutoProcessor.register(KimiVLConfig, KimiVLProcessor, exist_ok=True)
    WeightTransferEngineFactory.register_engine(
        "shared_memory", "kvl.rollouts.weights.weight_transfer", "SharedMemoryWeightTransferEngine"
    )


def die_with_owner() -> None:
    """In an engine process: end as soon as the actor that owns the engine is gone.

    The engine is forked from a helper process, which is its parent and may outlive a killed
    actor; without this both would stay behind, holding memory and cores.
    """
    owner = os.environ.get(OWNER_VARIABLE)
    if owner is None or int(owner) == os.getpid() or not hasattr(os, "pidfd_open"):
        return
    try:
        owner_exit = os.pidfd_open(int(owner))
    except ProcessLookupError:
        os._exit(1)

    def wait() -> None:
        select.select([owner_exit], [], [])
        if os.getppid() not in (1, int(owner)):
            os.kill(os.getppid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, name="owner-watch", daemon=True).start()
