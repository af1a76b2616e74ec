"""A chat model behind any server that speaks the OpenAI chat-completions protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from raylign.actors.judge.chat import ChatModel, Reply
from raylign.contracts import Sampling
from raylign.errors import JudgeUnavailable
from raylign.records import Message

BUSY = frozenset({408, 409, 425, 429})  # besides 5xx: worth another try
SHOWN = 300  # letters of an error's body
LONGEST_PAUSE_S = 30.0  # before a retry


class Endpoint(ChatModel):
    """POSTs to ``<url>/chat/completions``, with a `response_format` where `Sampling.structure` holds a JSON schema.

    Transport errors, timeouts, 429 and 5xx are tried again with doubling pauses (a server's Retry-After is heeded up to
    `LONGEST_PAUSE_S`); any other status is final. Both end as JudgeUnavailable with the reason.
    """

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
        config, started, why = self.config, time.perf_counter(), ""
        body = request_body(config.model, messages, sampling, seed) | config.extra
        for attempt in range(config.retries + 1):
            pause = min(LONGEST_PAUSE_S, config.pause_s * 2**attempt)
            try:
                response = await self._client.post(f"{config.url.rstrip('/')}/chat/completions", json=body)
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == httpx.codes.OK:
                    return self._reply(response, time.perf_counter() - started)
                why = f"HTTP {response.status_code}: {response.text[:SHOWN]}"
                if response.status_code not in BUSY and response.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    break
                pause = min(LONGEST_PAUSE_S, max(pause, _retry_after(response.headers)))
            if attempt < config.retries:
                self.retried += 1
                await asyncio.sleep(pause)
        raise JudgeUnavailable(f"{config.url}, model {config.model}: {why}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _reply(self, response: httpx.Response, seconds: float) -> Reply:
        try:
            body = response.json()
            text = body["choices"][0]["message"]["content"]
            tokens = int((body.get("usage") or {}).get("completion_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise JudgeUnavailable(
                f"{self.config.url}: no chat completion ({error!r}): {response.text[:SHOWN]}"
            ) from error
        return Reply(text=str(text or ""), tokens=tokens, seconds=seconds)


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
