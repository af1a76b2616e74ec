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
from raylign.actors.judge.trial import TEXTS, try_endpoint
from raylign.config.schema import Verb
from raylign.contracts import Sampling
from raylign.errors import ConfigError, JudgeUnavailable

SAMPLING = Sampling(max_tokens=7, temperature=0.5, top_p=0.8, structure={"json": {"type": "object"}})
MESSAGES = ({"role": "user", "content": "well?"},)
Handler = Callable[[web.Request], Any]


def completion(text: str) -> web.Response:
    body = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {"completion_tokens": 3}}
    return web.json_response(body)


@asynccontextmanager
async def served(handler: Handler, *more: tuple[str, Handler]) -> AsyncIterator[str]:
    app = web.Application()
    for path, of_path in (("/v1/chat/completions", handler), *more):
        app.router.add_post(path, of_path)
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


def tokenized(text: str) -> list[int]:
    return [ord(letter) % 97 for letter in text]


class Server:
    """The part of vLLM's server that scores and embeds, by rule; remembers what it was asked."""

    def __init__(self, scores: bool = True) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.scores, self.failures = scores, 0

    async def __call__(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append((request.path, body))
        if self.failures:
            self.failures -= 1
            return web.Response(status=503)
        if request.path == "/tokenize":
            ids = tokenized(body["prompt"]) if "prompt" in body else [7, len(body["messages"])]
            return web.json_response({"tokens": ids})
        if request.path.endswith("embeddings"):
            entries = [{"index": n, "embedding": [len(text), n]} for n, text in enumerate(body["input"])]
            return web.json_response({"data": entries[::-1]})
        after = [{"1": {"logprob": 0.0}, str(n): {"logprob": -n / 8}} for n in body["prompt"][1:]]
        return web.json_response(
            {"choices": [{"text": "", "prompt_logprobs": [None, *after] if self.scores else None}]}
        )


@asynccontextmanager
async def endpoint(server: Server, **settings: Any) -> AsyncIterator[Endpoint]:
    more = (("/tokenize", server), ("/v1/completions", server), ("/v1/embeddings", server))
    async with served(server, *more) as url:
        model = Endpoint(Endpoint.Config(url=url, model="m", **{"pause_s": 0.01, **settings}))
        yield model
        await model.close()


async def test_scores_are_of_the_same_ids() -> None:
    server = Server()
    async with endpoint(server) as model:
        assert (await model.score([5, 6], [8, 16, 4])).tolist() == [-1.0, -2.0, -0.5]
        assert (await model.score(MESSAGES, [8])).tolist() == [-1.0]
        server.failures = 2
        assert (await model.score([5], [8])).tolist() == [-1.0] and model.retried == 2
    bodies = [body for path, body in server.asked if path == "/v1/completions"]
    assert [body["prompt"] for body in bodies[:2]] == [[5, 6, 8, 16, 4], [7, 1, 8]]
    assert {name: bodies[0][name] for name in ("max_tokens", "prompt_logprobs", "model")} == {
        "max_tokens": 1,
        "prompt_logprobs": 0,
        "model": "m",
    }
    asked = next(body for path, body in server.asked if path == "/tokenize")
    assert asked["messages"] == [dict(MESSAGES[0])] and asked["add_generation_prompt"] is True


async def test_embeddings_come_in_the_order_of_their_texts() -> None:
    async with endpoint(Server()) as model:
        assert (await model.embed(["a", "bbb"])).tolist() == [[1, 0], [3, 1]]


async def test_a_server_is_tried_at_the_start(tmp_path: Path, tiny_model: Path) -> None:
    server = Server()
    async with endpoint(server) as model:
        await try_endpoint(model, [Verb.complete], "", "judges.base.endpoint")
        assert not server.asked, "nothing is asked of one that completes"
        await try_endpoint(model, [Verb.score, Verb.embed], "", "judges.base.endpoint")
        with pytest.raises(ConfigError, match=r"judges\.base\.endpoint = http.*reads .* as other ids than the policy"):
            await try_endpoint(model, [Verb.score], str(tiny_model), "judges.base.endpoint")
    async with endpoint(Server(scores=False)) as model:
        with pytest.raises(
            JudgeUnavailable, match=r"gives no log-probs of prompts.*cannot score; fix: serve m by vLLM"
        ):
            await try_endpoint(model, [Verb.score], "", "judges.base.endpoint")
    async with served(Server()) as url:
        for verb, named in ((Verb.score, "tokenize"), (Verb.embed, "v1/embeddings")):
            model = Endpoint(Endpoint.Config(url=url, model="m"))
            with pytest.raises(JudgeUnavailable, match=f"{named}, model m: HTTP 404"):
                await try_endpoint(model, [verb], "", "judges.base.endpoint")
            await model.close()
    assert all(TEXTS)
