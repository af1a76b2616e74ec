"""vLLM's `AsyncLLM`: an engine core and one worker per tensor-parallel rank, each in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from typing import Any

import numpy as np

from raylign.actors.rollout.adapters import SHARED_MEMORY, AdapterFolder, prove
from raylign.actors.rollout.engine import Bytes, Engine, EngineSpec, Gap, Layout, TokenIds
from raylign.actors.rollout.proof import Held, Proof
from raylign.chat.template import ChatTemplate
from raylign.contracts import Completion, Sampling, WeightUpdate
from raylign.errors import EngineDeadError, RequestError
from raylign.records import Float32s

LOOK_S = 0.2  # between two looks at whether the engine core lives, during a call


class AsyncLLMEngine(Engine):
    """`Engine` over an `AsyncLLM`.

    A paused AsyncLLM schedules nothing, not even a probe. So `verify` lets it run again, and results of other requests
    are kept back until the probe has proven the weights.
    """

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self._proof, self._adapter_proof = Proof(spec.dtype, spec.max_gap), Proof(spec.dtype, spec.max_gap)
        self._adapters = AdapterFolder() if spec.lora_rank else None
        self._lora: Any = None  # what requests name while there is an adapter
        self._ids = itertools.count()
        self._proven = asyncio.Event()
        self._proven.set()
        self._death: EngineDeadError | None = None
        self._llm: Any = None
        self._counters = {"requests": 0, "tokens": 0, "rejected": 0, "updates": 0, "running": 0}

    async def start(self) -> None:
        """See `Engine.start`. Takes 16 to 29 s on CPU."""
        from raylign.actors.rollout import vllm_io as io

        self._io = io
        try:
            from transformers import AutoTokenizer
            from vllm import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM

            fields = io.engine_fields(self.spec)
            self.max_context = io.context_of(self.spec)
            self.tokenizer = AutoTokenizer.from_pretrained(
                self.spec.model_path, trust_remote_code=self.spec.trust_remote_code
            )
            self.template = ChatTemplate(self.tokenizer, self.spec.template_args, fresh=self.spec.fresh)
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**fields))
            await self._llm.update_weight_version(str(self.version))
        except Exception as cause:
            raise self._die(cause) from cause

    async def generate(self, token_ids: TokenIds, sampling: Sampling, seed: int) -> Completion:
        """See `Engine.generate`."""
        prompt = self._io.prompt_of(token_ids, self.max_context)
        params = self._io.generate_params(sampling, seed, self.template.ends)
        completion = self._io.completion_from(await self._run(prompt, params), self.template)
        await self._proven.wait()
        if self._death is not None:
            raise EngineDeadError(str(self._death))
        return completion

    async def score(self, token_ids: TokenIds, start: int) -> Float32s:
        """See `Engine.score`."""
        if not 1 <= start <= len(token_ids):
            raise RequestError(f"start is {start}, expected 1 to {len(token_ids)}: the first token has no log-prob")
        prompt = self._io.prompt_of(token_ids, self.max_context, "sequence to score")
        return self._io.score_from(await self._run(prompt, self._io.score_params()))[start - 1 :]

    async def pause(self) -> None:
        """See `Engine.pause`."""
        await self._final(self._llm.pause_generation(mode="keep", clear_cache=False))

    async def load(self, layout: Layout, buffer: Bytes) -> None:
        """See `Engine.load`. The bytes reach vLLM's workers by a file in shared memory."""
        self._lora = None
        folder = SHARED_MEMORY if os.path.isdir(SHARED_MEMORY) else None
        handle, path = tempfile.mkstemp(prefix="raylign-weights-", dir=folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(np.ascontiguousarray(buffer).data)
            rows = [[name, dtype, list(shape), offset] for name, dtype, shape, offset in layout]
            if self._proof.fresh:
                await self._rpc("load_weights_from", path, rows, True)
                self._proof.begin(await self._held())
            await self._rpc("load_weights_from", path, rows)
        finally:
            os.unlink(path)

    async def load_adapter(self, weights: WeightUpdate, buffer: Bytes) -> None:
        """See `Engine.load_adapter`."""
        if self._adapters is None:
            raise self._die(EngineDeadError("an adapter was loaded into an engine that takes none"))
        self._adapters.write(weights, buffer)
        await self._final(self._llm.add_lora(self._adapters.request(load=True)))
        self._lora = self._adapters.request()

    async def commit(self, version: int) -> None:
        """See `Engine.commit`."""
        await self.reset_prefix_cache()
        await self._final(self._llm.update_weight_version(str(version)))
        self.version = version
        self._counters["updates"] += 1

    async def verify(self, weights: WeightUpdate) -> Gap:
        """See `Engine.verify`."""
        self._proven.clear()
        try:
            proof = self._proof if weights.adapter is None else self._adapter_proof
            if weights.adapter is None or self._adapters is None:
                proof.bytes(weights.version, weights.layout, weights.digests, await self._held())
            else:
                prove(weights.version, weights.digests, await self._rpc("held_adapter", self._adapters.path))
            await self.resume()
            logprobs = await asyncio.gather(*(self.score(row, 1) for row in weights.probe_ids))
            return proof.meaning(weights.version, Gap.between(np.stack(logprobs), weights.probe_logprobs))
        except Exception as cause:
            raise self._die(cause) from cause
        finally:
            self._proven.set()

    async def resume(self) -> None:
        """See `Engine.resume`."""
        await self._final(self._llm.resume_generation())

    async def reset_prefix_cache(self) -> None:
        """See `Engine.reset_prefix_cache`."""
        if not await self._final(self._llm.reset_prefix_cache(reset_running_requests=True)):
            raise self._die(EngineDeadError("the prefix cache could not be reset: old keys would be reused"))

    async def close(self) -> None:
        """See `Engine.close`."""
        llm, self._llm = self._llm, None
        if llm is not None:
            await asyncio.to_thread(llm.shutdown)

    def stats(self) -> dict[str, Any]:
        """Requests, tokens, rejected requests and updates so far; requests running now."""
        return {**self._counters, "version": self.version}

    async def _held(self) -> Held:
        return Held.merge(await self._rpc("held_digests"))

    async def _rpc(self, method: str, *arguments: Any) -> Any:
        """What the method of `WeightExtension` gives on every rank."""
        return await self._final(self._llm.collective_rpc(method, args=arguments))

    async def _run(self, prompt: Any, params: Any) -> Any:
        """The finished output of one request."""
        from vllm.v1.engine.exceptions import EngineDeadError as CoreDead

        if self._death is not None:
            raise EngineDeadError(str(self._death))
        self.submitted += 1
        self._counters["running"] += 1
        output, name = None, f"r{next(self._ids)}"
        try:
            async for finished in self._llm.generate(prompt, params, name, lora_request=self._lora):
                output = finished  # FINAL_ONLY: there is one
        except CoreDead as cause:
            raise self._die(cause) from cause
        except self._io.REQUEST_ERRORS as cause:
            self._counters["rejected"] += 1
            raise RequestError(str(cause)) from None
        finally:
            self._counters["running"] -= 1
        if output is None:
            raise self._die(EngineDeadError("vLLM ended a request without any output"))
        self._counters["requests"] += 1
        self._counters["tokens"] += len(output.outputs[0].token_ids)
        return output

    async def _final(self, call: Any) -> Any:
        """A call whose failure leaves the engine unusable.

        vLLM never answers a call that was under way when its engine core died, so its death is looked for meanwhile.
        """
        if self._death is not None:
            call.close()
            raise EngineDeadError(str(self._death))
        task = asyncio.ensure_future(call)
        try:
            while not (await asyncio.wait({task}, timeout=LOOK_S))[0]:
                if self._llm.errored:
                    raise EngineDeadError("the engine core died during a call")
            return task.result()
        except Exception as cause:
            raise self._die(cause) from cause
        finally:
            task.cancel()

    def _die(self, cause: Exception) -> EngineDeadError:
        text = str(cause) if isinstance(cause, EngineDeadError) else f"{type(cause).__name__}: {cause}"
        self._death = self._death or EngineDeadError(text)
        return EngineDeadError(str(self._death))
