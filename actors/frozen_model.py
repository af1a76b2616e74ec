"""Log-probs of given tokens under a frozen model: a reference policy or a teacher.

Ranks do not talk to each other: each holds the whole model and scores its share of the rows. They share the packing and
the forward pass with the learner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raylign.actors.learner.ranks import RankGroup, node_address, plain_errors, shared
from raylign.actors.learner.spec import LOGPROB_STREAM, LearnerSpec, RankTokens, scatter
from raylign.batch import Batch
from raylign.errors import LearnerError
from raylign.records import Float32s
from raylign.telemetry.logs import redirect_output

if TYPE_CHECKING:
    import torch

    from raylign.actors.learner.frozen import FrozenForward


class FrozenModelWorker:
    """One rank: a model without optimiser or gradients.

    log_path: the file that receives everything this process prints.
    """

    def __init__(self, rank: int, environment: int, log_path: str) -> None:
        redirect_output(log_path)
        self._rank, self._environment = rank, environment
        self._forward: FrozenForward
        self._device: torch.device

    def address(self) -> tuple[str, str]:
        """(node id, IP address) of this process."""
        return node_address()

    @plain_errors
    def load(self, spec: LearnerSpec) -> str:
        """Load the model; returns the note of `Loaded`."""
        import torch

        from raylign.actors.learner.frozen import FrozenForward

        torch.set_num_threads(spec.learner.threads)
        self._device = torch.device("cuda", 0) if spec.learner.gpus > 0 else torch.device("cpu")
        self._forward = FrozenForward(spec, self._device)
        if self._forward.note:
            logging.getLogger(__name__).warning(self._forward.note)
        return self._forward.note

    @plain_errors
    def free_cache(self) -> None:
        """Give memory that only PyTorch's allocator holds back to the device."""
        import torch

        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @plain_errors
    def logprobs(self, batch: Batch) -> RankTokens:
        """Log-probs of this rank's loss tokens."""
        return self._forward.streams(batch, [LOGPROB_STREAM], self._environment, self._rank)[LOGPROB_STREAM]


class FrozenModelGroup:
    """A frozen model on `spec.learner.ranks` actors. Dead ranks are replaced: they hold no state.

    spec: model_path, dtype, temperature, deadline_s, and of `learner` the ranks, threads, gpus, micro_batch_tokens,
    share_prompts, logprob_chunk and max_restarts. options: placement of a rank, as Ray actor options.
    restarted: is told why the ranks are replaced.
    """

    def __init__(
        self,
        spec: LearnerSpec,
        *,
        name: str,
        log_dir: Path | str,
        options: Callable[[int], dict[str, Any]],
        restarted: Callable[[LearnerError], None] = lambda cause: None,
    ) -> None:
        self._spec = spec
        self._ranks = partial(RankGroup, FrozenModelWorker, f"frozen-{name}", spec.learner.ranks, log_dir, options)
        self._group = self._ranks()
        self._restarted, self._restarts = restarted, 0
        self._one_at_a_time = asyncio.Lock()
        self.note = ""  # of `Loaded`, once started

    async def start(self) -> None:
        """Create the actors and load the model."""
        self._group.spawn(self._spec.learner.threads, self._spec.learner.gpus > 0)
        places = await self._group.call("address", deadline=self._spec.deadline_s)
        self._group.locate([f"{node[:8]} {address}" for node, address in places])
        self.note = (await self._group.call("load", self._spec, deadline=self._spec.deadline_s))[0]

    async def logprobs(self, batch: Batch) -> Float32s:
        """[N] log-probs at the spec's temperature; 0 off the loss mask.

        Raises LearnerError when ranks failed more than `learner.max_restarts` times.
        """
        async with self._one_at_a_time:
            while True:
                try:
                    reference = await shared(batch)
                    parts = await self._group.call("logprobs", reference, deadline=self._spec.deadline_s)
                    return scatter(parts, batch.tokens)
                except LearnerError as cause:
                    await self._replace(cause)

    async def _replace(self, cause: LearnerError) -> None:
        """New ranks with the same model; raises the cause when there were enough of them."""
        if self._restarts >= self._spec.learner.max_restarts:
            raise cause
        self._restarts += 1
        self._restarted(cause)
        self._group.kill()
        self._group = self._ranks()
        with suppress(LearnerError):  # the next call meets the dead ranks and says so
            await self.start()

    async def free_cache(self) -> None:
        """Give unused memory of the ranks back to their devices."""
        async with self._one_at_a_time:
            await self._group.call("free_cache", deadline=self._spec.deadline_s)

    async def close(self) -> None:
        """End the actors."""
        self._group.kill()
