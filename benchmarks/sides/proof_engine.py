"""The engine's half of `benchmarks.weight_proof`: each update once with every fault, and then as it should be."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.sides.proof_faults import Fault, Restore, faults_of
from raylign.actors.rollout.engine import EngineSpec, Gap
from raylign.actors.rollout.in_process import InProcessEngine
from raylign.actors.rollout.proof import Proof
from raylign.contracts import WeightUpdate
from raylign.errors import EngineDeadError


@dataclass(slots=True)
class Verdict:
    """What the two halves of the proof say; empty: nothing is wrong."""

    gap: float
    by_bytes: str = ""
    by_meaning: str = ""


@dataclass(slots=True)
class Trial:
    """One update."""

    seed: int
    version: int
    rate: float
    top: float  # mean top logit of the learner at version 0
    healthy: Verdict
    limit: float = 0.0  # of the gap
    stale: dict[str, Verdict] = field(default_factory=dict)  # faults that left other bytes than were published
    invisible: list[str] = field(default_factory=list)  # faults of tensors in which no bit changed


class TrialEngine(InProcessEngine):
    """An engine that survives its verdicts, and takes weights with faults."""

    def forget(self) -> None:
        """From now on as an engine before its first update."""
        self._proof = Proof(self.spec.dtype, self.spec.max_gap)

    async def trial(self, update: WeightUpdate, before: Mapping[str, str], report: Trial) -> None:
        """Judge the update under every other fault that shows, then without any."""
        await self._owner.call(lambda: self._trial(update, before, report))

    def _trial(self, update: WeightUpdate, before: Mapping[str, str], report: Trial) -> None:
        if self._proof.fresh:
            self._rpc("load_weights_from", update.buffer, update.layout, True)
            self._proof.begin(self._held())
        model = self._engine.model_executor.driver_worker.model_runner.get_model()
        faults = faults_of(update.digests)
        first, *rest = faults  # nothing is loaded: before anything is
        faults = [first, *rest[(report.seed + report.version) % 2 :: 2]]
        restores = [fault.capture(model) if fault.capture is not None else None for fault in faults]
        for fault, restore in zip(faults, restores, strict=True):
            if fault.visible(before, update.digests):
                report.stale[fault.name] = self._judged(update, fault, restore, copy.deepcopy(self._proof))
            else:
                report.invisible.append(fault.name)
        report.healthy = self._judged(update, None, None, self._proof)
        report.limit = self._proof.limit

    def _judged(self, update: WeightUpdate, fault: Fault | None, restore: Restore | None, proof: Proof) -> Verdict:
        if fault is None or fault.capture is not None:
            self._rpc("load_weights_from", update.buffer, update.layout)
        if restore is not None:
            restore()
        self._commit(update.version)
        gap = self._gap(update)
        verdict = Verdict(gap=gap.mean)
        try:
            proof.bytes(update.version, update.layout, update.digests, self._held())
        except EngineDeadError as refusal:
            verdict.by_bytes = str(refusal)
        try:
            proof.meaning(update.version, gap)
        except EngineDeadError as refusal:
            verdict.by_meaning = str(refusal)
        return verdict

    def _gap(self, update: WeightUpdate) -> Gap:
        return Gap.between(self._probe_logprobs(update.probe_ids, []), update.probe_logprobs)


def prove(folder: str, dtype: str, max_gap: float, learner: Any, results: Any) -> None:
    """Send a `Trial` for everything that the learner's half publishes, then None."""
    logging.getLogger("vllm").setLevel(logging.ERROR)  # it warns of every module without weights, at every update
    asyncio.run(_prove(folder, dtype, max_gap, learner, results))
    results.send(None)
    results.close()
    os._exit(0)  # vLLM may keep threads


async def _prove(folder: str, dtype: str, max_gap: float, learner: Any, results: Any) -> None:
    async for trial in trials(folder, dtype, max_gap, _received(learner)):
        results.send(trial)


async def trials(folder: str, dtype: str, max_gap: float, updates: Iterable[Any]) -> AsyncIterator[Trial]:
    """Judge all that `Learner.updates` gives, in one engine."""
    spec = EngineSpec(
        model_path=folder,
        dtype=dtype,
        max_context=128,
        max_sequences=16,
        kv_cache_bytes=1 << 27,
        max_gap=max_gap,
    )
    engine = TrialEngine(spec)
    await engine.start()
    before: Mapping[str, str] = {}
    for seed, rate, top, update in updates:
        if update.version == 0:
            engine.forget()
            before = {}
        trial = Trial(seed, update.version, rate, top, Verdict(0.0))
        await engine.trial(update, before, trial)
        before = update.digests
        yield trial
    await engine.close()


def _received(learner: Any) -> Iterator[Any]:
    while True:
        try:
            yield learner.recv()
        except EOFError:
            return
