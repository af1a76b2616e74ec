"""vLLM's `LLMEngine` in this process, owned by one thread: the quickest to start and the fastest on CPU.

    event loop ──commands──► inbox ──► owner thread: drain all, admit, step() ──one batch a step──► futures on the loop

Everything that touches vLLM runs in the owner thread, so that a weight update can never meet a step half way.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raylign.actors.rollout.engine import Bytes, Engine, EngineSpec, Gap, Layout, TokenIds
from raylign.actors.rollout.held import held_digests
from raylign.actors.rollout.proof import Held, Proof
from raylign.chat.template import ChatTemplate
from raylign.contracts import Completion, Sampling, WeightUpdate
from raylign.errors import EngineDeadError, RequestError
from raylign.records import Float32s

GC_THRESHOLD = 100_000  # vLLM makes thousands of short-lived objects a step, none of them in cycles


@dataclass(slots=True)
class _Request:
    """One request between its submission and its result."""

    prompt: Any
    params: Any
    order: int  # the seed; sorts requests that were collected while the engine was held
    convert: Callable[[Any], Any]  # RequestOutput -> result, run on the event loop
    future: asyncio.Future[Any]
    id: str = ""


@dataclass(slots=True)
class _Counters:
    requests: int = 0
    tokens: int = 0
    steps: int = 0
    rejected: int = 0
    updates: int = 0
    busy_s: float = 0.0  # inside vLLM's step
    running: dict[str, _Request] = field(default_factory=dict)


class InProcessEngine(Engine):
    """`Engine` over an `LLMEngine` in a thread of its own."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self._proof = Proof(spec.dtype, spec.max_gap)
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Event()
        self._waiting: deque[_Request] = deque()  # accepted, not yet known to vLLM
        self._collected: list[_Request] = []
        self._holds = 0
        self._counters = _Counters()
        self._delivery: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []
        self._ids = itertools.count()
        self._paused = self._closing = False
        self._death: EngineDeadError | None = None
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------------------------- called on the event loop

    async def start(self) -> None:
        """See `Engine.start`."""
        self._loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._own, args=(ready,), name="vllm-engine", daemon=True)
        self._thread.start()
        await ready

    async def generate(self, token_ids: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """See `Engine.generate`."""
        from raylign.actors.rollout import vllm_io as io

        prompt = io.prompt_of(token_ids, self.max_context)
        params = io.generate_params(sampling, seed, self.template.ends)
        return await self._submit(prompt, params, seed, lambda output: io.completion_from(output, self.template))

    async def score(self, token_ids: TokenIds, start: int) -> Float32s:
        """See `Engine.score`."""
        from raylign.actors.rollout import vllm_io as io

        if not 1 <= start <= len(token_ids):
            raise RequestError(f"start is {start}, expected 1 to {len(token_ids)}: the first token has no log-prob")
        prompt = io.prompt_of(token_ids, self.max_context, "sequence to score")
        return await self._submit(prompt, io.score_params(), 0, lambda output: io.score_from(output)[start - 1 :])

    async def pause(self) -> None:
        """See `Engine.pause`."""
        await self._command(lambda: self._set_paused(True))

    async def load(self, layout: Layout, buffer: Bytes) -> None:
        """See `Engine.load`."""
        await self._command(lambda: self._load(layout, buffer))

    async def commit(self, version: int) -> None:
        """See `Engine.commit`."""
        await self._command(lambda: self._commit(version))
        self.version = version

    async def verify(self, weights: WeightUpdate) -> Gap:
        """See `Engine.verify`."""
        return await self._command(lambda: self._verify(weights))

    async def resume(self) -> None:
        """See `Engine.resume`."""
        await self._command(lambda: self._set_paused(False))

    async def reset_prefix_cache(self) -> None:
        """See `Engine.reset_prefix_cache`."""
        await self._command(self._reset_prefix_cache)

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._thread is None:
            return
        self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)
        self._thread = None

    def stats(self) -> dict[str, Any]:
        """Requests, tokens, steps, rejected requests, updates and busy seconds so far; requests running now."""
        found = self._counters
        return {
            "requests": found.requests,
            "tokens": found.tokens,
            "steps": found.steps,
            "rejected": found.rejected,
            "updates": found.updates,
            "busy_s": found.busy_s,
            "running": len(found.running),
            "waiting": len(self._waiting),
            "version": self.version,
        }

    def _hold(self) -> None:
        self._holds += 1

    def _release(self) -> None:
        self._holds -= 1
        if self._holds == 0:
            batch, self._collected = sorted(self._collected, key=lambda request: request.order), []
            self._post(lambda: self._waiting.extend(batch))

    def _submit(self, prompt: Any, params: Any, order: int, convert: Callable[[Any], Any]) -> asyncio.Future[Any]:
        if self._death is not None:
            raise EngineDeadError(str(self._death))
        self.submitted += 1
        future: asyncio.Future[Any] = self._loop.create_future()
        request = _Request(prompt=prompt, params=params, order=order, convert=convert, future=future)
        future.add_done_callback(lambda done: self._post(lambda: self._abort(request)) if done.cancelled() else None)
        if self._holds:
            self._collected.append(request)
        else:
            self._post(lambda: self._waiting.append(request))
        return future

    async def _command(self, run: Callable[[], Any]) -> Any:
        """Run something in the owner thread between two steps. Any exception there is the engine's death."""
        if self._death is not None:
            raise EngineDeadError(str(self._death))
        future: asyncio.Future[Any] = self._loop.create_future()

        def execute() -> None:
            try:
                if self._death is not None:
                    raise self._death
                result = run()
            except Exception as cause:  # noqa: BLE001 - whatever went wrong, the caller gets it as EngineDeadError
                self._die(cause)
                self._deliver_later(future, _raising(self._death))
                return
            self._deliver_later(future, lambda: result)

        self._post(execute)
        return await future

    def _post(self, command: Callable[[], None]) -> None:
        self._inbox.append(command)
        self._wake.set()

    def _hand_over(self, batch: list[tuple[asyncio.Future[Any], Callable[[], Any]]]) -> None:
        for future, result in batch:
            if future.done():
                continue
            try:
                future.set_result(result())
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the one who waits for this future
                future.set_exception(error)

    # ------------------------------------------------------------------------------------ called in the owner thread

    def _own(self, ready: asyncio.Future[None]) -> None:
        try:
            self._build()
        except Exception as cause:  # noqa: BLE001 - vLLM and pydantic raise types that do not pickle
            self._die(cause)
            self._deliver_later(ready, _raising(self._death))
            self._flush()
            return
        self._deliver_later(ready, lambda: None)
        self._flush()
        while not self._closing:
            self._wake.clear()
            while self._inbox:
                self._inbox.popleft()()
            if self._death is not None:
                self._fail_all(self._death)
            elif not self._paused:
                self._admit()
                if self._counters.running:
                    self._step()
            self._flush()
            if not self._busy():
                self._wake.wait()
        self._death = self._death or EngineDeadError("the engine was closed")
        self._fail_all(self._death)
        self._flush()
        self._engine.engine_core.shutdown()

    def _busy(self) -> bool:
        # Waiting ones count: all that run may finish in one step, and nobody else would wake the thread for the next.
        work = self._counters.running or self._waiting
        return bool(self._inbox) or (self._death is None and not self._paused and bool(work))

    def _build(self) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # vLLM reads it; with 1 the engine would be a child process
        gc.disable()  # imports leave no garbage; looking for it takes a tenth of their time
        import torch

        if not self.spec.gpu:
            torch.set_num_threads(self.spec.threads)  # before vLLM, which ignores it from then on
        from transformers import AutoTokenizer
        from vllm.v1.engine.llm_engine import LLMEngine

        from raylign.actors.rollout import cpu_patches
        from raylign.actors.rollout import vllm_io as io

        gc.freeze()  # vLLM collects by force while it loads: four times half a second, were the modules looked at
        gc.enable()
        self._io, self._patches = io, cpu_patches
        self.tokenizer = AutoTokenizer.from_pretrained(
            self.spec.model_path, trust_remote_code=self.spec.trust_remote_code
        )
        self.template = ChatTemplate(self.tokenizer, self.spec.template_args, fresh=self.spec.fresh)
        self.max_context = io.context_of(self.spec)
        self._engine: Any = LLMEngine.from_engine_args(io.engine_args(self.spec))
        self._engine.set_weight_version(str(self.version))
        if not self.spec.gpu:
            cpu_patches.draw_seeds_in_blocks(self._engine.model_executor.driver_worker.model_runner)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 100)

    def _admit(self) -> None:
        running = self._counters.running
        while self._waiting and len(running) < self.spec.max_sequences:
            request = self._waiting.popleft()
            if request.future.done():  # cancelled before it began
                continue
            request.id = str(next(self._ids))
            try:
                self._engine.add_request(request.id, request.prompt, request.params)
            except self._io.REQUEST_ERRORS as cause:
                self._counters.rejected += 1
                self._deliver_later(request.future, _raising(RequestError(str(cause))))
                continue
            running[request.id] = request
            self._counters.requests += 1

    def _step(self) -> None:
        started = time.perf_counter()
        try:
            outputs = self._engine.step()
        except Exception as cause:  # noqa: BLE001 - a step that raises leaves the scheduler in an unknown state
            self._die(cause)
            return
        self._counters.steps += 1
        self._counters.busy_s += time.perf_counter() - started
        for output in outputs:
            self._finish(output)

    def _finish(self, output: Any) -> None:
        request = self._counters.running.pop(output.request_id, None)
        if request is None:
            return
        self._counters.tokens += len(output.outputs[0].token_ids)
        self._deliver_later(request.future, lambda: request.convert(output))

    def _abort(self, request: _Request) -> None:
        if self._counters.running.pop(request.id, None) is not None and self._death is None:
            self._engine.abort_request([request.id])

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused

    def _load(self, layout: Layout, buffer: Bytes) -> None:
        if not self._paused:
            raise EngineDeadError("weights were loaded into an engine that is not paused")
        tensors = self._io.named_tensors(layout, buffer)
        if not self.spec.gpu:
            self._engine.apply_model(self._patches.forget_packed_experts)
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": tensors})
        if not self.spec.gpu:
            self._engine.apply_model(self._patches.check_experts)
            self._engine.apply_model(self._patches.repack_head)

    def _commit(self, version: int) -> None:
        self._reset_prefix_cache()
        self._engine.set_weight_version(str(version))
        self._counters.updates += 1

    def _reset_prefix_cache(self) -> None:
        if not self._engine.reset_prefix_cache(reset_running_requests=True):
            raise EngineDeadError("the prefix cache could not be reset: keys of the old weights would be reused")

    def _verify(self, weights: WeightUpdate) -> Gap:
        """Results that other requests reach meanwhile are kept back until the weights are proven."""
        held = Held.merge(self._engine.apply_model(held_digests))
        self._proof.bytes(weights.version, weights.layout, weights.digests, held)
        probes = [f"probe-{next(self._ids)}" for _ in weights.probe_ids]
        for probe, row in zip(probes, weights.probe_ids, strict=True):
            self._engine.add_request(probe, self._io.prompt_of(row, self.max_context, "probe"), self._io.score_params())
        found: dict[str, Any] = {}
        others = []
        while len(found) < len(probes):
            for output in self._engine.step():
                if output.request_id in probes:
                    found[output.request_id] = self._io.score_from(output)
                else:
                    others.append(output)
        gap = Gap.between(np.stack([found[probe] for probe in probes]), weights.probe_logprobs)
        self._proof.meaning(weights.version, gap)
        for output in others:
            self._finish(output)
        return gap

    def _die(self, cause: Exception) -> None:
        """From now on every call fails with EngineDeadError; vLLM's own exceptions do not pickle, their text does."""
        if self._death is None:
            traceback.print_exception(cause)  # to the worker's log, which the error points at
            text = str(cause) if isinstance(cause, EngineDeadError) else f"{type(cause).__name__}: {cause}"
            self._death = EngineDeadError(text)
        self._fail_all(self._death)

    def _fail_all(self, death: EngineDeadError) -> None:
        for request in (*self._counters.running.values(), *self._waiting):
            self._deliver_later(request.future, _raising(death))
        self._counters.running.clear()
        self._waiting.clear()

    def _deliver_later(self, future: asyncio.Future[Any], result: Callable[[], Any]) -> None:
        self._delivery.append((future, result))

    def _flush(self) -> None:
        """One wake-up of the event loop a step, however many requests finished in it."""
        if self._delivery:
            batch, self._delivery = self._delivery, []
            self._loop.call_soon_threadsafe(self._hand_over, batch)


def _raising(error: Exception | None) -> Callable[[], Any]:
    """A result that raises; a new exception each time, since many futures share the cause."""

    def result() -> Any:
        raise type(error)(str(error)) if error is not None else EngineDeadError("the engine was closed")

    return result
