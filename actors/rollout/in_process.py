"""vLLM's `LLMEngine` in this process, owned by one thread: the quickest to start and the fastest on CPU.

Everything that touches vLLM runs in the owner thread (`owner_thread`), whose turn of work is to admit what waits and to
step once; so a weight update can never meet a step half way.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from raylign.actors.rollout.adapters import AdapterFolder, prove
from raylign.actors.rollout.engine import Bytes, Engine, EngineSpec, Gap, Layout, TokenIds
from raylign.actors.rollout.owner_thread import OwnerThread, raising
from raylign.actors.rollout.proof import Held, Proof
from raylign.actors.rollout.requests import Counters, Request
from raylign.chat.template import ChatTemplate
from raylign.contracts import Completion, Sampling, WeightUpdate
from raylign.errors import EngineDeadError, RequestError
from raylign.records import Float32s, Int32s

GC_THRESHOLD = 100_000  # vLLM makes thousands of short-lived objects a step, none of them in cycles


class InProcessEngine(Engine):
    """`Engine` over an `LLMEngine` in a thread of its own."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self._proof, self._adapter_proof = Proof(spec.dtype, spec.max_gap), Proof(spec.dtype, spec.max_gap)
        self._adapters = AdapterFolder() if spec.lora_rank else None
        self._lora: Any = None  # what requests name while there is an adapter
        self._owner = OwnerThread(self, "vllm-engine")
        self._waiting: deque[Request] = deque()  # accepted, not yet known to vLLM
        self._collected: list[Request] = []
        self._holds = 0
        self._counters = Counters()
        self._ids = itertools.count()
        self._paused = False

    # ------------------------------------------------------------------------------------- called on the event loop

    async def start(self) -> None:
        """See `Engine.start`."""
        await self._owner.start()

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
        await self._owner.call(lambda: self._set_paused(True))

    async def load(self, layout: Layout, buffer: Bytes) -> None:
        """See `Engine.load`."""
        await self._owner.call(lambda: self._load(layout, buffer))

    async def load_adapter(self, weights: WeightUpdate, buffer: Bytes) -> None:
        """See `Engine.load_adapter`."""
        await self._owner.call(lambda: self._load_adapter(weights, buffer))

    async def commit(self, version: int) -> None:
        """See `Engine.commit`."""
        await self._owner.call(lambda: self._commit(version))
        self.version = version

    async def verify(self, weights: WeightUpdate) -> Gap:
        """See `Engine.verify`."""
        return await self._owner.call(lambda: self._verify(weights))

    async def resume(self) -> None:
        """See `Engine.resume`."""
        await self._owner.call(lambda: self._set_paused(False))

    async def reset_prefix_cache(self) -> None:
        """See `Engine.reset_prefix_cache`."""
        await self._owner.call(self._reset_prefix_cache)

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._owner.close()

    def stats(self) -> dict[str, Any]:
        """Requests, tokens, steps, rejected requests, updates and busy seconds so far; requests running now."""
        counters = self._counters
        return {
            "requests": counters.requests,
            "tokens": counters.tokens,
            "steps": counters.steps,
            "rejected": counters.rejected,
            "updates": counters.updates,
            "busy_s": counters.busy_s,
            "running": len(counters.running),
            "waiting": len(self._waiting),
            "version": self.version,
        }

    def _hold(self) -> None:
        self._holds += 1

    def _release(self) -> None:
        self._holds -= 1
        if self._holds == 0:
            batch, self._collected = sorted(self._collected, key=lambda request: request.order), []
            self._owner.post(lambda: self._waiting.extend(batch))

    def _submit(self, prompt: Any, params: Any, order: int, convert: Callable[[Any], Any]) -> asyncio.Future[Any]:
        self._owner.check()
        self.submitted += 1
        future = self._owner.future()
        request = Request(prompt=prompt, params=params, order=order, convert=convert, future=future)
        abort = functools.partial(self._owner.post, functools.partial(self._abort, request))
        future.add_done_callback(lambda done: abort() if done.cancelled() else None)
        if self._holds:
            self._collected.append(request)
        else:
            self._owner.post(lambda: self._waiting.append(request))
        return future

    # ------------------------------------------------------------------------------------ called in the owner thread

    def build(self) -> None:
        """See `Owned.build`."""
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
        self._io = io
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

    def work(self) -> None:
        """See `Owned.work`."""
        if not self._paused:
            self._admit()
            if self._counters.running:
                self._step()

    def busy(self) -> bool:
        """See `Owned.busy`."""
        # Waiting ones count: all that run may finish in one step, and nobody else would wake the thread for the next.
        return not self._paused and bool(self._counters.running or self._waiting)

    def fail(self, death: EngineDeadError) -> None:
        """See `Owned.fail`."""
        for request in (*self._counters.running.values(), *self._waiting):
            self._owner.deliver(request.future, raising(death))
        self._counters.running.clear()
        self._waiting.clear()

    def shut(self) -> None:
        """See `Owned.shut`."""
        self._engine.engine_core.shutdown()

    def _admit(self) -> None:
        running = self._counters.running
        while self._waiting and len(running) < self.spec.max_sequences:
            request = self._waiting.popleft()
            if request.future.done():  # cancelled before it began
                continue
            request.id = str(next(self._ids))
            try:
                self._engine.add_request(request.id, request.prompt, request.params, lora_request=self._lora)
            except self._io.REQUEST_ERRORS as cause:
                self._counters.rejected += 1
                self._owner.deliver(request.future, raising(RequestError(str(cause))))
                continue
            running[request.id] = request
            self._counters.requests += 1

    def _step(self) -> None:
        started = time.perf_counter()
        outputs = self._engine.step()
        self._counters.steps += 1
        self._counters.busy_s += time.perf_counter() - started
        for output in outputs:
            self._finish(output)

    def _finish(self, output: Any) -> None:
        request = self._counters.running.pop(output.request_id, None)
        if request is None:
            return
        self._counters.tokens += len(output.outputs[0].token_ids)
        self._owner.deliver(request.future, lambda: request.convert(output))

    def _abort(self, request: Request) -> None:
        if self._counters.running.pop(request.id, None) is not None and not self._owner.dead:
            self._engine.abort_request([request.id])

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused

    def _load(self, layout: Layout, buffer: Bytes) -> None:
        if not self._paused:
            raise EngineDeadError("weights were loaded into an engine that is not paused")
        self._lora = None
        if self._proof.fresh:
            self._rpc("load_weights_from", buffer, layout, True)
            self._proof.begin(self._held())
        self._rpc("load_weights_from", buffer, layout)

    def _load_adapter(self, weights: WeightUpdate, buffer: Bytes) -> None:
        if not self._paused or self._adapters is None:
            raise EngineDeadError("an adapter was loaded into an engine that is not paused, or takes none")
        self._adapters.write(weights, buffer)
        self._engine.add_lora(self._adapters.request(load=True))
        self._lora = self._adapters.request()

    def _held(self) -> Held:
        return Held.merge(self._rpc("held_digests"))

    def _rpc(self, method: str, *arguments: Any) -> Any:
        """What the method of `WeightExtension` gives on every rank."""
        return self._engine.collective_rpc(method, args=arguments)

    def _commit(self, version: int) -> None:
        self._reset_prefix_cache()
        self._engine.set_weight_version(str(version))
        self._counters.updates += 1

    def _reset_prefix_cache(self) -> None:
        if not self._engine.reset_prefix_cache(reset_running_requests=True):
            raise EngineDeadError("the prefix cache could not be reset: keys of the old weights would be reused")

    def _verify(self, weights: WeightUpdate) -> Gap:
        """Results that other requests reach meanwhile are kept back until the weights are proven."""
        proof = self._proof if weights.adapter is None else self._adapter_proof
        if weights.adapter is None or self._adapters is None:
            proof.bytes(weights.version, weights.layout, weights.digests, self._held())
        else:
            prove(weights.version, weights.digests, self._rpc("held_adapter", self._adapters.path))
        others: list[Any] = []
        logprobs = self._probe_logprobs(weights.probe_ids, others)
        gap = proof.meaning(weights.version, Gap.between(logprobs, weights.probe_logprobs))
        for output in others:
            self._finish(output)
        return gap

    def _probe_logprobs(self, rows: Int32s, others: list[Any]) -> Float32s:
        """[R, L - 1] log-probs of the rows' later ids; outputs of other requests are added to `others`."""
        ids = [f"probe-{next(self._ids)}" for _ in rows]
        for name, row in zip(ids, rows, strict=True):
            prompt = self._io.prompt_of(row, self.max_context, "probe")
            self._engine.add_request(name, prompt, self._io.score_params(), lora_request=self._lora)
        scores: dict[str, Any] = {}
        while len(scores) < len(ids):
            for output in self._engine.step():
                if output.request_id in ids:
                    scores[output.request_id] = self._io.score_from(output)
                else:
                    others.append(output)
        return np.stack([scores[name] for name in ids])
