"""A reward that asks a judge, and an endpoint that can be cut: what `benchmarks/chaos.py` strikes besides actors."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.sides.tasks import share_of_vowels
from raylign.actors.judge.blocking import BlockingJudge
from raylign.config.schema import Node
from raylign.contracts import RewardFunction
from raylign.records import Prompt, Trajectory, Value

SCHEMA = {"type": "object", "properties": {"answer": {"type": "boolean"}}, "required": ["answer"]}


class JudgedVowels(RewardFunction):
    """Half the share of vowels, half a judge's yes or no to the response."""

    @dataclass
    class Config:
        """judge: fields of `raylign.actors.judge.client.Judge.Config`."""

        judge: Node = field(default_factory=dict)

    judges_text = False  # what an untrained judge says proves nothing

    def __init__(self, config: Config) -> None:
        self._judge = BlockingJudge(config.judge)

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value per trajectory. Raises JudgeError."""
        return [self._one(trajectory.text) for trajectory in trajectories]

    def _one(self, text: str) -> Value:
        question = ({"role": "user", "content": text or "?"},)
        verdict = self._judge(lambda one: one.ask(question, lambda value: bool(value["answer"]), SCHEMA)).value
        return Value(score=(share_of_vowels("", text, "") + verdict) / 2)


class RuleEndpoint:
    """A server of the OpenAI protocol whose verdict is a rule: whether the checksum of the question is even."""

    def __init__(self) -> None:
        self.url = ""
        self.refused = 0
        self._cut_until = 0.0

    def cut(self, seconds: float) -> None:
        """Drop every connection for a while."""
        self._cut_until = time.monotonic() + seconds

    @contextmanager
    def serving(self) -> Iterator[RuleEndpoint]:
        """Serve on a free port; `url` is known inside."""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if time.monotonic() < endpoint._cut_until:
                    endpoint.refused += 1
                    self.close_connection = True
                    return
                even = zlib.crc32(asked["messages"][-1]["content"].encode()) % 2 == 0
                choice = {"message": {"role": "assistant", "content": json.dumps({"answer": even})}}
                body = json.dumps({"choices": [choice], "usage": {"completion_tokens": 1}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silence."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
