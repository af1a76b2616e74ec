"""The actor of a served judge: one frozen model in one engine, reached by name from anywhere in the job."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import ray

from raylign.actors.judge.chat import Reply
from raylign.actors.judge.endpoint import Endpoint
from raylign.actors.remote import by_content
from raylign.actors.rollout.engine import Engine, EngineSpec, make_engine
from raylign.chat.template import ChatTemplate
from raylign.config.schema import EngineKind
from raylign.contracts import Sampling
from raylign.errors import EngineDeadError, LoadError
from raylign.records import Message
from raylign.telemetry.logs import redirect_output

EXIT_DELAY_S = 0.5  # lets the error reach the caller before the process is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSpec:
    """Everything needed to build a judge's worker. `endpoint` and `engine` exclude each other.

    Example: ``JudgeSpec(kind=EngineKind.auto, engine=spec, log_path="/r/logs/judge-j-0.log")``
    """

    log_path: str
    kind: EngineKind = EngineKind.auto
    engine: EngineSpec | None = None
    endpoint: Endpoint.Config | None = None


class JudgeWorker:
    """A `ChatModel` in a Ray actor with an event loop. Its weights never change, so Ray restarts it by itself.

    A restarted worker loads its model at the first request. One whose files or settings are no model says so to every
    request; a load that failed for another reason, and an engine that died, end the process, which Ray makes anew.
    """

    def __init__(self, spec: JudgeSpec) -> None:
        redirect_output(spec.log_path)
        self._spec = spec
        self._engine: Engine | None = None
        self._endpoint: Endpoint | None = None
        self._starting = asyncio.Lock()
        self._unfit = ""  # why no try can load the model

    async def start(self) -> int:
        """Load the model, if it is not loaded yet; the process id.

        Raises LoadError when its files or settings are at fault, EngineDeadError when another try may load it.
        """
        async with self._starting:
            if self._engine is None and self._endpoint is None and not self._unfit:
                try:
                    await self._load()
                except Exception as error:
                    why = str(error) if isinstance(error, EngineDeadError) else f"{type(error).__name__}: {error}"
                    if not by_content(why):
                        raise EngineDeadError(why) from error
                    traceback.print_exception(error)
                    self._unfit = why
        if self._unfit:
            raise LoadError(f"its model cannot be loaded: {self._unfit}")
        return os.getpid()

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        """The answer to a conversation.

        No text in it becomes a special token: what is judged cannot speak in the template's voice.

        Raises RequestError on a conversation that does not fit or that the template refuses, JudgeUnavailable when an
        endpoint gives none, LoadError as `start`, and EngineDeadError, after which the process ends and is made anew.
        """
        try:
            await self.start()
            if self._endpoint is not None:
                return await self._endpoint.complete(messages, sampling, seed)
            assert self._engine is not None
            started = time.perf_counter()
            completion = await self._engine.generate(self._template.prompt_ids(messages), sampling, seed)
        except EngineDeadError as error:
            traceback.print_exception(error)
            asyncio.get_running_loop().call_later(EXIT_DELAY_S, os._exit, 1)
            raise EngineDeadError(str(error)) from error
        return Reply(text=completion.text, tokens=len(completion.token_ids), seconds=time.perf_counter() - started)

    @ray.method(concurrency_group="health")
    async def ping(self) -> int:
        """The process id, also while the engine is busy."""
        return os.getpid()

    async def close(self) -> None:
        """Stop the engine; the actor may then be killed."""
        if self._engine is not None:
            await self._engine.close()
        if self._endpoint is not None:
            await self._endpoint.close()

    async def _load(self) -> None:
        spec = self._spec
        if spec.endpoint is not None:
            self._endpoint = Endpoint(spec.endpoint)
            return
        assert spec.engine is not None
        engine = make_engine(spec.kind, spec.engine)
        await engine.start()
        self._template = ChatTemplate(engine.tokenizer, spec.engine.template_args, guarded=True)
        self._engine = engine
