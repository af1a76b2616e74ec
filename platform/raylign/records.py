"""The one vocabulary of the platform: Prompt -> Call -> Trajectory -> Group -> Row (-> Batch, see `batch.py`).

Token in, token out: only ids that were sent to or sampled by the engine are stored. Text is derived once, by the worker
that sampled it, for rewards and logs; it is never encoded again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Int32s: TypeAlias = NDArray[np.int32]
Float32s: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]
Message: TypeAlias = Mapping[str, Any]


class StopReason(StrEnum):
    """Why a turn or a trajectory ended."""

    EOS = "eos"
    STOP = "stop"  # a stop string or a stop token other than EOS
    LENGTH = "length"  # the response ran into `max_tokens` or the context
    ABORT = "abort"  # the engine was told to give up on it
    TURNS = "turns"  # a multi-turn episode ran out of turns
    DONE = "done"  # the environment said that the episode is over


@dataclass(frozen=True, slots=True)
class Span:
    """A part of what a call said, characters [start, end) of its `text`, and what each token in it scores.

    Example: ``Span(0, 4, -1.0)`` for the first word of "best shoes ever"
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A reward that was measured.

    `channels` carries finer-grained parts, one entry per turn or per token, under the name that the reward gives them.
    `roles` has the score of the calls of a role, where it is not that of the whole trajectory. `spans` says what single
    tokens score, one tuple for each call of the trajectory; None: nothing of the kind was measured.

    Example: ``Value(score=1.0, details={"parsed": "42"})``
    """

    score: float
    details: Mapping[str, Any] = field(default_factory=dict)
    channels: Mapping[str, Float32s] = field(default_factory=dict)
    roles: Mapping[str, float] = field(default_factory=dict)
    spans: tuple[tuple[Span, ...], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A reward that could not be measured (timeout, crash, unreachable judge). Absent is not zero.

    Example: ``Missing(reason="timeout after 5.0 s")``
    """

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A reward that does not apply to this trajectory: its function said so. Neither a score nor a failure.

    Example: ``Absent()`` of a reward for code, on a prompt that asks for none
    """


Reward: TypeAlias = Value | Missing | Absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One task for the policy.

    `id` is stable across runs and epochs (content hash unless the data set brings one); `visit` counts how often the
    source has handed it out, so that a second epoch draws other samples.

    Example: ``Prompt(id="gsm8k-0001", messages=({"role": "user", "content": "1+1?"},), token_ids=..., answer="2")``
    """

    id: str
    messages: tuple[Message, ...]
    token_ids: Int32s  # [P] the rendered prompt, generation suffix included
    answer: Any = None  # ground truth, in whatever form the reward wants
    domain: str = ""  # routes rewards, teachers and metrics
    meta: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    visit: int = 0
    place: str = ""  # file and line that it came from, for messages
    thinks: bool = False  # the rendered prompt ends within a thought, which its template opens

    @property
    def key(self) -> str:
        """Identity of one visit of this prompt."""
        return f"{self.id}#{self.visit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of the policy: the tokens that preceded it since the last turn, and the tokens that it sampled.

    Example: ``Call(context_ids=[], token_ids=[52, 53, 2], logprobs=[-.1, -.2, -.0], versions=[3, 3, 3], stop="eos")``
    """

    context_ids: Int32s  # [C] observation tokens appended since the previous turn (empty for the first turn)
    fresh: bool = False  # context_ids are all that the call read: nothing before them
    role: str = ""  # what the policy was asked to be, where it plays several parts
    learn: bool = True  # False: nothing is learned from what was sampled here
    token_ids: Int32s  # [R] sampled ids, EOS included when it was sampled
    logprobs: Float32s  # [R] processed log-probability of each sampled id under the sampler
    versions: Int32s  # [R] policy version that sampled each id
    stop: StopReason
    text: str = ""  # decoded `token_ids` without pad tokens and ends of turn; derived, never re-encoded
    reward: float | None = None  # what the environment gave for this turn, if any
    flags: Mapping[str, Any] = field(default_factory=dict)
    observed: tuple[Message, ...] = ()  # what the environment answered; where a call follows, it read them


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Payload:
    """Something large beside a trajectory's tokens, with its content: an image, latents, a trace.

    As rollouts make it, as rewards see it and as checkpoints keep it; on the driver and for the learner a
    `raylign.payloads.Reference` stands in its place.

    Example: ``Payload(kind="image", content=np.zeros((64, 64, 3), np.uint8))``
    """

    kind: str
    content: NDArray[Any]

    def __post_init__(self) -> None:
        if not isinstance(self.content, np.ndarray) or self.content.dtype.hasobject:
            given = self.content.dtype if isinstance(self.content, np.ndarray) else type(self.content).__name__
            raise ValueError(f"the content of a payload ({self.kind}) is {given}; fix: give an array of numbers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One complete attempt at a prompt.

    `rewards` is filled by the reward pools, one entry per reward name.

    Example: ``Trajectory(prompt_key="gsm8k-0001#0", sample_index=3, calls=(turn,), seed=77)``
    """

    prompt_key: str
    sample_index: int
    calls: tuple[Call, ...]
    seed: int
    stop: StopReason
    rewards: Mapping[str, Reward] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)  # plain data; what is large as a Payload or a Reference
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles of its calls, in the order of their first; ("",) where it has no call."""
        return tuple(dict.fromkeys(call.role for call in self.calls)) or ("",)

    @property
    def text(self) -> str:
        """All sampled text, turns joined by newlines."""
        return "\n".join(call.text for call in self.calls)

    @property
    def response_length(self) -> int:
        """Number of sampled tokens."""
        return sum(len(call.token_ids) for call in self.calls)

    @property
    def truncated(self) -> bool:
        """Whether the last turn was cut by a length limit."""
        return self.stop is StopReason.LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All trajectories of one visit of a prompt, with the scalar that advantage works on.

    `scores[i]` is None when any reward of trajectory i is Missing: it takes no part in the group's statistics.
    `call_scores[i]`, where a shaper gives it, has one number per turn of trajectory i, for advantages finer than a
    trajectory. `role_scores[i]` has the score of the calls of a role where it is not `scores[i]`.
    `token_scores[name][i]` has one number for each sampled token of trajectory i, call after call; None: 0 for all;
    NaN for all: they could not be judged.

    Example: ``Group(prompt=p, trajectories=(t0, t1), scores=(1.0, None))``
    """

    prompt: Prompt
    trajectories: tuple[Trajectory, ...]
    scores: tuple[float | None, ...] = ()
    call_scores: tuple[Float32s | None, ...] = ()
    role_scores: tuple[Mapping[str, float], ...] = ()
    token_scores: Mapping[str, tuple[Float32s | None, ...]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def valid(self) -> tuple[int, ...]:
        """Indices of the trajectories that have a score."""
        return tuple(i for i, score in enumerate(self.scores) if score is not None)

    def score_of(self, index: int, role: str) -> float | None:
        """The score of the calls of a role in a trajectory; None where the trajectory has no score."""
        score = self.scores[index]
        return score if score is None or not self.role_scores else self.role_scores[index].get(role, score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row for the learner: a prompt, what followed it, and its per-token streams, all of length T.

    Position t of every stream describes token t. `loss_mask` is true only on sampled ids, of calls to learn from.

    Example: ``Row(group=0, prompt_length=2, token_ids=[5, 6, 9, 2], loss_mask=[0, 0, 1, 1], ...)``
    """

    group: int  # rows that are compared with each other: those of one visit of a prompt
    prompt_length: int
    token_ids: Int32s  # [T]
    loss_mask: Bools  # [T]
    sampler_logprob: Float32s  # [T], 0 where not sampled
    policy_version: Int32s  # [T], -1 where not sampled
    advantage: Float32s  # [T]
    weight: Float32s  # [T] extra per-token weight of the policy loss, 1 by default
    extras: Mapping[str, Float32s] = field(default_factory=dict)  # named streams, each [T]
    payload: Mapping[str, Any] = field(default_factory=dict)  # a Reference by name
    numbers: Mapping[str, int | float | str] = field(default_factory=dict)  # one of each for the row, see `Batch`


def content_id(*parts: str) -> str:
    """Stable 16-hex-digit identity of some text."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def derive_seed(run_seed: int, *path: str | int) -> int:
    """A 63-bit seed for one random draw, the same whatever worker draws it.

    Example: ``derive_seed(run_seed, prompt.key, sample_index, turn_index)``
    """
    text = "\x1f".join(str(part) for part in (run_seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
