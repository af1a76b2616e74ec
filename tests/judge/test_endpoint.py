"""The HTTP judge against a real server on this machine that fails in every way a server can."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from raylign.actors.judge.endpoint import Endpoint, request_body
from raylign.contracts import Sampling
from raylign.errors import JudgeUnavailable

SAMPLING = Sampling(max_tokens=7, temperature=0.5, top_p=0.8, structure={"json": {"type": "object"}})
MESSAGES = ({"role": "user", "content": "well?"},)
Handler = Callable[[web.Request], Any]


def completion(text: str) -> web.Response:
    body = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {"completion_tokens": 3}}
    return web.json_response(body)


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def ask(url: str, **settings: Any) -> tuple[str, Endpoint]:
    model = Endpoint(Endpoint.Config(url=url, model="m", **{"pause_s": 0.01, **settings}))
    try:
        return (await model.complete(MESSAGES, SAMPLING, 2**62 + 5)).text, model
    finally:
        await model.close()


async def test_request_and_reply(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((await request.json(), request.headers.get("Authorization")))
        return completion("fine")

    (tmp_path / "key").write_text("secret\n")
    async with served(handler) as url:
        text, _ = await ask(url, key_file=str(tmp_path / "key"), extra={"top_k": 5})
    assert text == "fine"
    body, authorization = seen[0]
    assert authorization == "Bearer secret"
    assert body["messages"] == [dict(MESSAGES[0])] and body["model"] == "m" and body["top_k"] == 5
    assert body["max_tokens"] == 7 and 0 <= body["seed"] < 2**31
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_is_asked_again(status: int) -> None:
    count = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        return completion("fine") if count == 3 else web.Response(status=status, headers={"Retry-After": "0.02"})

    async with served(handler) as url:
        text, model = await ask(url)
    assert (text, model.retried) == ("fine", 2)


async def test_a_refusal_is_final() -> None:
    count = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        return web.Response(status=400, text="prompt too long")

    async with served(handler) as url:
        with pytest.raises(JudgeUnavailable, match="HTTP 400: prompt too long"):
            await ask(url)
    assert count == 1


async def test_dropped_connections_and_timeouts_end_as_unavailable() -> None:
    async def drop(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async def sleep(request: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async with served(drop) as url:
        with pytest.raises(JudgeUnavailable, match=r"RemoteProtocolError|ReadError"):
            await ask(url, retries=2)
    async with served(sleep) as url:
        with pytest.raises(JudgeUnavailable, match="ReadTimeout"):
            await ask(url, retries=1, timeout_s=0.1)
    with pytest.raises(JudgeUnavailable, match="ConnectError"):
        await ask("http://127.0.0.1:9/v1", retries=1)


async def test_a_reply_that_is_no_completion_is_named() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response({"error": "model is loading"})

    async with served(handler) as url:
        with pytest.raises(JudgeUnavailable, match="no chat completion"):
            await ask(url)


def test_structures_that_the_protocol_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="understands"):
        request_body("m", MESSAGES, Sampling(max_tokens=1, structure={"regex": "a+"}), 0)
    assert "response_format" not in request_body("m", MESSAGES, Sampling(max_tokens=1), 0)
