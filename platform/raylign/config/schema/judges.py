"""The models that a run serves beside its policy, and what they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from raylign.config.findings import Findings
from raylign.config.schema.roles import EngineConfig
from raylign.contracts import MODEL, artifact
from raylign.errors import Problem


class Verb(Enum):
    """What a served model does."""

    complete = "complete"  # answer a conversation
    score = "score"  # log-probs of given ids after a conversation or other ids
    embed = "embed"  # texts as vectors


class Pooling(Enum):
    """How the hidden states of a text's tokens become one vector."""

    mean = "mean"
    last = "last"  # the state of the last token


@dataclass
class JudgeConfig(EngineConfig):
    """One model that the run serves for judges, simulated tools and users, rewards and embedders (`actors/judge`).

    Parts reach it by its name: ``model: {_target_: raylign.actors.judge.served.Served, name: NAME}``. With an
    `endpoint` its workers pass requests on to a server elsewhere, and hold no model. As composed `gpus` is
    default_gpus.judge, unless it is set. A worker that embeds loads the model once more, beside the engine of the other
    verbs where it has them.
    """

    path: str = artifact(MODEL)  # Hugging Face folder or id, @STAGE, or the endpoint's model; empty: the run's start
    endpoint: str = ""  # e.g. http://host:8000/v1
    key_file: str = ""  # of the endpoint: a file with its bearer token
    dtype: str = ""  # empty: the policy's
    max_context: int = 16384
    template: dict[str, Any] = field(default_factory=dict)  # arguments of the chat template, e.g. enable_thinking
    verbs: list[Verb] = field(default_factory=lambda: [Verb.complete])  # what it is asked for, tried at the start
    pooling: Pooling = Pooling.mean  # of the last layer's states, of every token; an endpoint has its own

    def problems(self, key: str) -> list[Problem]:
        """See `Section.problems`."""
        findings = Findings(key)
        findings += super().problems(key)
        findings.positive(max_context=self.max_context)
        findings.expect(bool(self.verbs), "verbs", "[]", "leaves it nothing to do", f"set {key}.verbs=[complete]")
        alone = Verb.embed not in self.verbs or self.tensor_parallel == 1 or bool(self.endpoint)
        why = "splits the engine, and states are computed on one device"
        findings.expect(
            alone, "tensor_parallel", self.tensor_parallel, why, f"set {key}.tensor_parallel=1, or embed by another"
        )
        findings.one_of("dtype", self.dtype, ("", "float32", "bfloat16"))
        if self.endpoint:
            fix = f"set {key}.path to the name of the endpoint's model"
            findings.expect(bool(self.path), "path", "empty", "an endpoint serves models by name", fix)
        return findings
