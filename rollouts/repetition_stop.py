"""vLLM's schedulers, with the stop for responses that repeat themselves.

MiniMax-M1 (arXiv 2506.13585): a response is cut after 3,000 consecutive tokens with p > .99.
vLLM's own repetition detection compares token ids and knows nothing of probabilities; its status
for what it stops, `FINISHED_REPETITION`, is used here too.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from ..configs.rollout import RepetitionStop
from .certain_runs import RUN_BEFORE, CertainRuns
from .weights.weight_scheduler import WeightScheduler


class RepetitionStopScheduler(WeightScheduler):
    """Ends a request at the very token that makes its run as long as the limit in
    `additional_config["repetition_stop"]`, unless that is a stop token.

    A token counts when it is appended to its request: what a preempted request computes anew, or
    sampled in a step that began before it ended, is not appended and does not count. Requests
    that ask for no log-probs are left alone. One token a step: no speculative decoding.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings: Any = self.vllm_config.additional_config
        self._runs = CertainRuns(RepetitionStop.model_validate(settings["repetition_stop"]))
        self._step: ModelRunnerOutput | None = None

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        self._step = model_runner_output
        return super().update_from_output(scheduler_output, model_runner_output)

    def _update_request_with_output(
        self, request: Request, new_token_ids: list[int], is_stale: bool = False
    ) -> tuple[list[int], bool]:
        ids, stopped = super()._update_request_with_output(request, new_token_ids, is_stale)
        if request.status != RequestStatus.FINISHED_STOPPED and self._repeats(request):
            # Also at the cap: a response in pieces must end where the same in one would.
            request.status = RequestStatus.FINISHED_REPETITION
            stopped = True
        return ids, stopped

    def _repeats(self, request: Request) -> bool:
        step, parameters = self._step, request.sampling_params
        if step is None or step.logprobs is None:
            return False
        if parameters is None or parameters.num_logprobs is None:
            return False
        name = request.request_id
        # The first column is the sampled token's.
        row = step.logprobs.slice_request(step.req_id_to_index[name], 1).logprobs
        before = (parameters.extra_args or {}).get(RUN_BEFORE, 0)
        return self._runs.add(name, float(row[0, 0]), before)

    def _free_request(self, request: Request, delay_free_blocks: bool = False) -> Any:
        self._runs.forget(request.request_id)
        return super()._free_request(request, delay_free_blocks)


class RepetitionStopAsyncScheduler(RepetitionStopScheduler, AsyncScheduler):
    """The same where steps overlap: vLLM drops what the next one samples for an ended request."""
