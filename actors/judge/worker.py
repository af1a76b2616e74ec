"""The actor of a served judge: one frozen model in one engine, reached by name from anywhere in the job."""

from __future__ import annotations

import asyncio
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from raylign.actors.judge.chat import Before, Reply, is_conversation
from raylign.actors.judge.endpoint import Endpoint
from raylign.actors.judge.trial import try_endpoint
from raylign.actors.remote import by_content
from raylign.actors.rollout.engine import Engine, EngineSpec, make_engine
from raylign.actors.routed import same_vocabulary
from raylign.chat.messages import continues
from raylign.chat.template import ChatTemplate
from raylign.config.schema import EngineKind, Pooling, Verb
from raylign.contracts import Sampling
from raylign.data.score_cache import SUFFIXES, fingerprint
from raylign.errors import ConfigError, EngineDeadError, JudgeUnavailable, LoadError, RequestError
from raylign.models.hidden_states import HiddenStates
from raylign.models.tokenizer import load_tokenizer
from raylign.records import Float32s, Int32s, Message, content_id
from raylign.telemetry.logs import redirect_output

EXIT_DELAY_S = 0.5  # lets the error reach the caller before the process is gone
OPENED = "<think>\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSpec:
    """Everything needed to build a judge's worker. `endpoint` and `engine` exclude each other.

    Example: ``JudgeSpec(kind=EngineKind.auto, engine=spec, log_path="/r/logs/judge-j-0.log")``
    """

    log_path: str
    key: str = "judges"  # its section, for messages
    kind: EngineKind = EngineKind.auto
    engine: EngineSpec | None = None
    endpoint: Endpoint.Config | None = None
    verbs: tuple[Verb, ...] = (Verb.complete,)
    pooling: Pooling = Pooling.mean
    policy_path: str = ""  # whose vocabulary the ids to score are of


class JudgeWorker:
    """What a `ChatModel` asks, in a Ray actor with an event loop. Its weights never change, so Ray
    restarts it by itself.

    A restarted worker loads its model at the first request. One whose files or settings are no model says so to every
    request; a load that failed for another reason, and an engine that died, end the process, which Ray makes anew.
    """

    def __init__(self, spec: JudgeSpec) -> None:
        redirect_output(spec.log_path)
        self._spec = spec
        self._engine: Engine | None = None
        self._endpoint: Endpoint | None = None
        self._states: HiddenStates | None = None
        self._loaded = False
        self._unfit = ""  # why no try can load the model
        self._starting, self._embedding = asyncio.Lock(), asyncio.Lock()

    async def start(self) -> int:
        """Load the model, if it is not loaded yet, and try what it is to do; the process id.

        Raises LoadError when its files or settings are at fault, JudgeUnavailable when an endpoint does not do what it
        is to do, EngineDeadError when another try may load it.
        """
        async with self._starting:
            if not self._loaded and not self._unfit:
                try:
                    await self._load()
                    self._loaded = True
                except JudgeUnavailable:
                    raise
                except Exception as error:
                    why = str(error) if isinstance(error, EngineDeadError) else f"{type(error).__name__}: {error}"
                    if not by_content(why) and not isinstance(error, (ConfigError, LoadError)):
                        raise EngineDeadError(why) from error
                    traceback.print_exception(error)
                    self._unfit = why
        if self._unfit:
            raise LoadError(f"its model cannot be loaded: {self._unfit}")
        return os.getpid()

    async def identity(self) -> str:
        """Name of the model across runs: by its files, and by what else answers depend on."""
        spec = self._spec
        if spec.endpoint is not None:
            await self.start()
        if self._endpoint is not None:
            return self._endpoint.name
        assert spec.engine is not None
        path, settings = spec.engine.model_path, (spec.engine.dtype, spec.engine.template_args, spec.pooling.value)
        return f"{path} {await asyncio.to_thread(files_identity, path)} {settings}"

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        """The answer to a conversation.

        No text in it becomes a special token: what is judged cannot speak in the template's voice. Where the template
        has opened a thought the answer begins with its tag, so that one that breaks off is not taken for an answer.

        Raises RequestError on a conversation that does not fit or that the template refuses, JudgeUnavailable when an
        endpoint gives none, LoadError as `start`, and EngineDeadError, after which the process ends and is made anew.
        """
        with _exit_when_dead():
            await self._ready(Verb.complete)
            if self._endpoint is not None:
                return await self._endpoint.complete(messages, sampling, seed)
            assert self._engine is not None
            started = time.perf_counter()
            completion = await self._engine.generate(self._template.prompt_ids(messages), sampling, seed)
        opened = self._template.thinks and sampling.structure is None and not continues(messages)
        return Reply(
            text=f"{OPENED}{completion.text}" if opened else completion.text,
            tokens=len(completion.token_ids),
            seconds=time.perf_counter() - started,
        )

    async def score(self, before: Before, ids: Sequence[int] | Int32s) -> Float32s:
        """See `ChatModel.score`; raises as `complete` does."""
        with _exit_when_dead():
            await self._ready(Verb.score)
            if self._endpoint is not None:
                return await self._endpoint.score(before, ids)
            assert self._engine is not None
            ahead = self._template.prompt_ids(before) if is_conversation(before) else before
            if not len(ahead):
                raise RequestError("a score needs something before the ids; give messages, or at least one id")
            return await self._engine.score(np.concatenate([ahead, ids]).astype(np.int32), len(ahead))

    async def tokens_of(self, text: str) -> list[int]:
        """See `ChatModel.tokens_of`; raises as `complete` does."""
        with _exit_when_dead():
            await self._ready(Verb.score)
            if self._endpoint is not None:
                return await self._endpoint.tokens_of(text)
            assert self._engine is not None
            ids: list[int] = self._engine.tokenizer(text, add_special_tokens=False)["input_ids"]
            return ids

    async def embed(self, texts: Sequence[str]) -> Float32s:
        """See `HiddenStates`. Raises RequestError on a text that does not fit, JudgeUnavailable as `complete` does."""
        with _exit_when_dead():
            await self._ready(Verb.embed)
        if self._endpoint is not None:
            return await self._endpoint.embed(texts)
        assert self._states is not None
        async with self._embedding:
            return await asyncio.to_thread(self._states, texts)

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

    async def _ready(self, verb: Verb) -> None:
        await self.start()
        if verb not in self._spec.verbs:
            verbs = ",".join([*(own.value for own in self._spec.verbs), verb.value])
            raise RequestError(f"it is not asked to {verb.value}; fix: set {self._spec.key}.verbs=[{verbs}]")

    async def _load(self) -> None:
        spec = self._spec
        if spec.endpoint is not None:
            self._endpoint = Endpoint(spec.endpoint)
            await try_endpoint(self._endpoint, spec.verbs, spec.policy_path, f"{spec.key}.endpoint")
            return
        assert spec.engine is not None
        if {Verb.complete, Verb.score} & set(spec.verbs):
            engine = make_engine(spec.kind, spec.engine)
            await engine.start()
            self._template = ChatTemplate(engine.tokenizer, spec.engine.template_args, guarded=True)
            self._engine = engine
            if Verb.score in spec.verbs and spec.policy_path not in ("", spec.engine.model_path):
                policy = await asyncio.to_thread(load_tokenizer, spec.policy_path, spec.engine.trust_remote_code)
                same_vocabulary(policy, engine.tokenizer, f"{spec.key}.path", spec.engine.model_path)
        if Verb.embed in spec.verbs:
            self._states = await asyncio.to_thread(
                HiddenStates,
                spec.engine.model_path,
                pooling=spec.pooling,
                max_tokens=spec.engine.max_context,
                dtype=spec.engine.dtype,
                device="cuda" if spec.engine.gpu else "cpu",
                trust_remote_code=spec.engine.trust_remote_code,
                cuts=False,
            )


@contextmanager
def _exit_when_dead() -> Iterator[None]:
    """An engine that died takes its process with it, once the error is on its way."""
    try:
        yield
    except EngineDeadError as error:
        traceback.print_exception(error)
        asyncio.get_running_loop().call_later(EXIT_DELAY_S, os._exit, 1)
        raise EngineDeadError(str(error)) from error


def files_identity(path: str) -> str:
    """Which files a model is, without reading them all: a folder's by size and time, a hub id's by its commit."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return fingerprint(path)
    stats = ((file.name, file.stat()) for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES)
    return content_id(*(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats))
