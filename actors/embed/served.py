"""Vectors from a model that the run serves, or from an HTTP endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from raylign.actors.embed.kept import KeptEmbedder
from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.judge.chat import ChatModel
from raylign.actors.judge.verbs import verb_problems
from raylign.config.resolve import Run
from raylign.config.schema import Node, Verb, node
from raylign.errors import Problem
from raylign.records import Float32s


class ServedEmbedder(KeptEmbedder):
    """Asks a model's verb `embed`; how states become a vector is the model's setting (`judges.NAME.pooling`)."""

    @dataclass
    class Config(KeptEmbedder.Config):
        """Which model."""

        model: Node = node(ChatModel)  # e.g. {_target_: raylign.actors.judge.served.Served, name: NAME}

        def __post_init__(self) -> None:
            super().__post_init__()
            if not self.model:
                raise ValueError("model is empty: name one, e.g. {_target_: raylign.actors.judge.served.Served}")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """The model must embed."""
        return verb_problems(f"{key}.model", Verb.embed, run)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._judge = BlockingJudge({"model": config.model, "cache_entries": 0})  # vectors are kept here

    @cached_property
    def identity(self) -> str:  # type: ignore[override]  # asks the model, once
        """See `Embedder.identity`."""

        async def named(judge: Any) -> str:
            return str(await judge.model.identity())

        return self._judge(named)

    def compute(self, texts: Sequence[str]) -> Float32s:
        """See `KeptEmbedder.compute`."""
        answer = self._judge(lambda judge: judge.embed(texts))
        return answer.value
