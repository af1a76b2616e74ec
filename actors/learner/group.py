"""The learner as the loop sees it: a group of DeepSpeed ranks behind the contract `Learner`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from raylign.actors.learner.ranks import RankGroup, shared
from raylign.actors.learner.spec import LearnerSpec, Loaded, RankTokens, RankUpdate, merge_updates, scatter
from raylign.actors.learner.worker import LearnerWorker
from raylign.batch import Batch
from raylign.config.schema import LearnerConfig
from raylign.contracts import LearnerUpdate, WeightUpdate
from raylign.errors import LearnerError
from raylign.records import Float32s

Options = Callable[[int], dict[str, Any]]


class LearnerGroup:
    """N ranks that train one model at a time; implements `raylign.contracts.Learner`.

    role: names the logs, ``<log_dir>/learner-<role>-<rank>.log``. config: its ranks, threads and gpus shape the group.
    options: placement of a rank, as Ray actor options. collectives_s: seconds that a rank waits for the others in a
    collective; as long as any call may take, since ranks that read or write a checkpoint drift apart by minutes.

    Every call runs on all ranks under the spec's deadline. The first rank that raises or dies ends the group with a
    LearnerError that carries that rank's error, node and log; make and `start` a new group after that.

    Example::

        group = LearnerGroup("learner", config, log_dir=Path("run/logs"), options=lambda rank: {"num_cpus": 1})
        await group.start()
        await group.load(LearnerSpec(model_path=path, learner=config, total_steps=100))
        metrics = await group.update(batch, {"_target_": "raylign.objectives.loss.policy.ClippedLoss"})
    """

    def __init__(
        self,
        role: str,
        config: LearnerConfig,
        *,
        log_dir: Path | str,
        options: Options,
        collectives_s: float = 1800.0,
    ) -> None:
        label = role if role.startswith("learner") else f"learner-{role}"
        self._group = RankGroup(LearnerWorker, label, config.ranks, log_dir, options)
        self._threads, self._gpu = config.threads, config.gpus > 0
        self._collectives_s = collectives_s
        self._spec: LearnerSpec | None = None
        self._fills: frozenset[str] = frozenset()
        self.pids: tuple[int, ...] = ()  # of the ranks' processes, once started

    async def start(self, deadline: float = 300.0) -> None:
        """Create the actors and their process group. deadline: seconds for each of these two alone."""
        self._group.spawn(self._threads, self._gpu)
        places = await self._group.call("address", deadline=deadline)
        self._group.locate([f"{node[:8]} {address}" for node, address, _ in places])
        _, address, port = places[0]
        # On one node the loopback is always right; the host's own name may not resolve.
        master = "127.0.0.1" if len({node for node, _, _ in places}) == 1 else address
        args = (master, port, self._threads, self._gpu, self._collectives_s)
        self.pids = tuple(await self._group.call("start", *args, deadline=deadline))

    async def load(self, spec: LearnerSpec) -> Loaded:
        """Build the engine for this spec on every rank, in place of an earlier one. Returns the slowest rank's report;
        the note is the same on all.
        """
        self._spec = spec
        reports: list[Loaded] = await self._call("load", spec)
        self._fills = reports[0].streams
        return max(reports, key=lambda report: report.seconds)

    async def update(self, batch: Batch, objective: Mapping[str, Any]) -> LearnerUpdate:
        """One optimiser step on the whole batch.

        Metrics: ``loss``, ``loss/<component>``, the objective's own, ``grad_norm`` before clipping, ``lr``; and below
        ``learner/``: tokens computed, seconds of the slowest rank, tokens_per_second, rank_balance, peak_rss_mb.
        """
        reports: list[RankUpdate] = await self._call("update", await shared(batch), dict(objective))
        parts = [report.tokens for report in reports if report.tokens is not None]
        logprobs = scatter(parts, batch.tokens) if parts else None
        return LearnerUpdate(metrics=merge_updates(reports), logprobs=logprobs)

    @property
    def fills(self) -> frozenset[str]:
        """Streams that the loaded model's forward kind can fill; none before `load`."""
        return self._fills

    async def streams(self, batch: Batch, names: Collection[str]) -> dict[str, Float32s]:
        """[N] for each name; 0 off the loss mask."""
        parts: list[dict[str, RankTokens]] = await self._call("streams", await shared(batch), sorted(names))
        return {name: scatter([part[name] for part in parts], batch.tokens) for name in names}

    async def publish(self, version: int) -> WeightUpdate:
        """All weights in one object of the store, with a probe row."""
        update: WeightUpdate = (await self._call("publish", version))[0]
        return update

    async def save(self, folder: str) -> None:
        """A checkpoint; every rank writes its part."""
        await self._call("save", folder)

    async def restore(self, folder: str) -> None:
        """Continue from a checkpoint, bit for bit."""
        await self._call("restore", folder)

    async def export(self, folder: str) -> None:
        """A Hugging Face folder: safetensors, config, tokenizer, chat template."""
        await self._call("export", folder)

    async def free_cache(self) -> None:
        """Give unused memory of the ranks back to their devices."""
        await self._call("free_cache")

    async def close(self) -> None:
        """End the ranks."""
        self._group.kill()

    async def _call(self, method: str, *args: Any) -> list[Any]:
        if self._spec is None:
            raise LearnerError(f"{method} was called before load")
        return await self._group.call(method, *args, deadline=self._spec.deadline_s)
