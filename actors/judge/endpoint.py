"""A model behind any server that speaks OpenAI's protocol; scores come from vLLM's servers alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from raylign.actors.judge.chat import Before, ChatModel, Reply, is_conversation
from raylign.config.schema import Verb
from raylign.contracts import Sampling
from raylign.errors import JudgeUnavailable
from raylign.records import Float32s, Int32s, Message

BUSY = frozenset({408, 409, 425, 429})  # besides 5xx: worth another try
SHOWN = 300  # letters of an error's body
LONGEST_PAUSE_S = 30.0  # before a retry


class Endpoint(ChatModel):
    """POSTs to ``<url>/chat/completions``, with a `response_format` where `Sampling.structure` holds a JSON schema, to
    ``<url>/completions`` and ``/tokenize`` for scores, and to ``<url>/embeddings``.

    Transport errors, timeouts, 429 and 5xx are tried again with doubling pauses (a server's Retry-After is heeded up to
    `LONGEST_PAUSE_S`); any other status is final. Both end as JudgeUnavailable with the reason.
    """

    verbs = frozenset(Verb)  # a server that does less says so when it is asked

    @dataclass
    class Config:
        """Which server and model, timeouts and retries."""

        url: str = ""  # e.g. http://judge:8000/v1
        model: str = ""
        key_file: str = ""  # holds the bearer token; empty: none is sent
        timeout_s: float = 120.0  # of one request
        retries: int = 4
        pause_s: float = 0.5  # before the first retry, doubled each time
        connections: int = 256
        extra: dict[str, Any] = field(default_factory=dict)  # further fields of every request's body

        def __post_init__(self) -> None:
            if not self.url.startswith(("http://", "https://")) or not self.model:
                raise ValueError(f"url={self.url!r}, model={self.model!r}: both must be given, url with http:// before")
            if self.timeout_s <= 0 or self.retries < 0 or self.pause_s < 0 or self.connections < 1:
                raise ValueError("timeout_s and connections must be positive, retries and pause_s 0 or more")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.retried = 0
        headers = {}
        if config.key_file:
            headers["Authorization"] = f"Bearer {Path(config.key_file).expanduser().read_text().strip()}"
        self._client = httpx.AsyncClient(
            timeout=config.timeout_s, headers=headers, limits=httpx.Limits(max_connections=config.connections)
        )

    @property
    def name(self) -> str:
        """Address and model."""
        return f"{self.config.url}#{self.config.model}{sorted(self.config.extra.items())}"

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        """The first choice of the answer. Raises JudgeUnavailable."""
        started = time.perf_counter()
        response = await self._posted("chat/completions", request_body(self.config.model, messages, sampling, seed))
        with self._understood("chat completion", response):
            body = response.json()
            text = body["choices"][0]["message"]["content"]
            tokens = int((body.get("usage") or {}).get("completion_tokens") or 0)
        return Reply(text=str(text or ""), tokens=tokens, seconds=time.perf_counter() - started)

    async def score(self, before: Before, ids: Sequence[int] | Int32s) -> Float32s:
        """See `ChatModel.score`: by the log-probs of a prompt, which of the servers vLLM's gives. Its own template
        renders messages. Raises JudgeUnavailable.
        """
        ahead = await self._rendered(before) if is_conversation(before) else [int(number) for number in before]  # type: ignore[arg-type]
        given = [int(number) for number in ids]
        body = {"model": self.config.model, "prompt": [*ahead, *given], "max_tokens": 1, "temperature": 0.0}
        response = await self._posted("completions", body | {"prompt_logprobs": 0})
        with self._understood("completion", response):
            entries = response.json()["choices"][0].get("prompt_logprobs")
        if entries is None:
            raise JudgeUnavailable(
                f"{self.config.url}: gives no log-probs of prompts (prompt_logprobs), so it cannot score; fix: serve "
                f"{self.config.model} by vLLM, or in the run itself (judges.NAME without endpoint)"
            )
        with self._understood("list of log-probs", response):
            found = [entry[str(number)]["logprob"] for entry, number in zip(entries[len(ahead) :], given, strict=True)]
        return np.array(found, np.float32)

    async def embed(self, texts: Sequence[str]) -> Float32s:
        """See `ChatModel.embed`; pooling is the server's. Raises JudgeUnavailable."""
        response = await self._posted("embeddings", {"model": self.config.model, "input": list(texts)})
        with self._understood("list of embeddings", response):
            entries = sorted(response.json()["data"], key=lambda entry: int(entry["index"]))
            vectors = np.array([entry["embedding"] for entry in entries], np.float32)
            if vectors.ndim != 2 or len(vectors) != len(texts):
                raise ValueError(f"{vectors.shape} for {len(texts)} texts")
        return vectors

    async def tokens_of(self, text: str) -> list[int]:
        """The ids of a text in the server's vocabulary, without special tokens around. Raises JudgeUnavailable."""
        return await self._tokenized({"prompt": text, "add_special_tokens": False})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _rendered(self, messages: Sequence[Message]) -> list[int]:
        return await self._tokenized({"messages": [*messages], "add_generation_prompt": True})

    async def _tokenized(self, body: dict[str, Any]) -> list[int]:
        response = await self._posted("../tokenize", {"model": self.config.model, **body})
        with self._understood("list of tokens", response):
            return [int(number) for number in response.json()["tokens"]]

    async def _posted(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """The server's answer to a request that it took. Raises JudgeUnavailable."""
        config, why = self.config, ""
        base = config.url.rstrip("/")
        url = f"{base.removesuffix('/v1')}/{path.removeprefix('../')}" if path.startswith("../") else f"{base}/{path}"
        for attempt in range(config.retries + 1):
            pause = min(LONGEST_PAUSE_S, config.pause_s * 2**attempt)
            try:
                response = await self._client.post(url, json={**body, **config.extra})
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == httpx.codes.OK:
                    return response
                why = f"HTTP {response.status_code}: {response.text[:SHOWN]}"
                if response.status_code not in BUSY and response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    break
                pause = min(LONGEST_PAUSE_S, max(pause, _retry_after(response.headers)))
            if attempt < config.retries:
                self.retried += 1
                await asyncio.sleep(pause)
        raise JudgeUnavailable(f"{url}, model {config.model}: {why}")

    @contextmanager
    def _understood(self, what: str, response: httpx.Response) -> Iterator[None]:
        """An answer of another form than was asked for is none."""
        try:
            yield
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise JudgeUnavailable(f"{self.config.url}: no {what} ({error!r}): {response.text[:SHOWN]}") from error


def request_body(model: str, messages: Sequence[Message], sampling: Sampling, seed: int) -> dict[str, Any]:
    """The request in the protocol's words. Raises ValueError on a structure that it has no word for."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [dict(message) for message in messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed % 2**31,  # servers differ in how large a seed may be
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.structure is not None:
        schema: Any = sampling.structure.get("json")
        if not isinstance(schema, Mapping) or len(sampling.structure) != 1:
            raise ValueError(f"structure {sampling.structure}: an endpoint understands {{'json': schema}} only")
        described = {"name": "reply", "schema": dict(schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    return body


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return float(headers.get("retry-after", 0))
    except ValueError:  # a date: the pause of our own will do
        return 0.0
