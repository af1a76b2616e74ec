"""A batch as flat columns with offsets: no padding, and readable zero-copy from Ray's object store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raylign.records import Int32s, Row

if TYPE_CHECKING:
    from raylign.payloads import Reference

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """B rows laid end to end in streams of N tokens. Row i is ``stream[offsets[i]:offsets[i + 1]]``.

    What is compared and what is computed once are two numbers of a row: rows of one `groups` number share a baseline,
    rows of one `prompts` number their first tokens. Arrays by row that have a meaning here: ``prompt`` (see `prompts`),
    ``sample`` (see `samples`) and ``role`` (see `roles`).

    Streams always present: token_ids (int32), loss_mask (bool), sampler_logprob (float32), policy_version (int32),
    advantage (float32), weight (float32). Others are added by name: old_logprob, ref_logprob, value, return, ...
    Arrays that came through the object store are read-only; make new ones, never write in place.

    Example: two rows of 3 and 2 tokens have ``offsets=[0, 3, 5]`` and streams of length 5.
    """

    offsets: NDArray[np.int64]  # [B + 1]
    prompt_lengths: Int32s  # [B]
    groups: Int32s  # [B] rows with the same number are compared with each other
    streams: Mapping[str, Array]  # name -> [N]
    payloads: tuple[Mapping[str, Reference], ...] = ()  # [B] what each row has beside its tokens; empty: no row has any
    arrays: Mapping[str, Array] = field(default_factory=dict)  # name -> [B]

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if array.shape != (len(self),):
                raise ValueError(f"array {name} has shape {array.shape}, expected ({len(self)},)")

    def __len__(self) -> int:
        return len(self.prompt_lengths)

    def __getitem__(self, name: str) -> Array:
        return self.streams[name]

    def __contains__(self, name: str) -> bool:
        return name in self.streams

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, [B]."""
        return np.diff(self.offsets)

    @property
    def prompts(self) -> Array:
        """[B] rows with the same number, and the same prompt_length, share their first prompt_length tokens.

        Array ``prompt``, else `groups`.
        """
        return self.arrays.get("prompt", self.groups)

    @property
    def samples(self) -> Array:
        """[B] rows with the same number are of one trajectory. Array ``sample``, else each row is one of its own."""
        return self.arrays.get("sample", np.arange(len(self)))

    @property
    def roles(self) -> Array:
        """[B] role of the calls that a row learns from, text. Array ``role``, else "" for every row."""
        return self.arrays.get("role", np.full(len(self), ""))

    @property
    def tokens(self) -> int:
        """N, tokens in all rows."""
        return int(self.offsets[-1])

    @property
    def row_of_token(self) -> NDArray[np.int64]:
        """Index of the row that each token belongs to, [N]."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def row(self, index: int, stream: str) -> Array:
        """One row of one stream (a view)."""
        return self.streams[stream][self.offsets[index] : self.offsets[index + 1]]

    def with_streams(self, **streams: Array) -> Batch:
        """The same rows with streams added or replaced. Raises ValueError on a wrong length."""
        for name, stream in streams.items():
            if stream.shape != (self.tokens,):
                raise ValueError(f"stream {name} has shape {stream.shape}, expected ({self.tokens},)")
        return replace(self, streams={**self.streams, **streams})

    def select(self, rows: Sequence[int] | Array) -> Batch:
        """Some rows, in the order given."""
        rows = np.asarray(rows, np.int64)
        spans = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in rows]
        index = np.concatenate(spans) if spans else np.zeros(0, np.int64)
        return Batch(
            offsets=offsets_of(self.lengths[rows]),
            prompt_lengths=self.prompt_lengths[rows],
            groups=self.groups[rows],
            streams={name: stream[index] for name, stream in self.streams.items()},
            payloads=tuple(self.payloads[row] for row in rows) if self.payloads else (),
            arrays={name: array[rows] for name, array in self.arrays.items()},
        )

    def by_context(self) -> Batch:
        """The same streams in as many rows as there are contexts: a row whose calls begin anew is cut where they do.

        Such a row says so by the stream ``fresh``, above 0 at the first token of each context of its own. Every stream
        keeps its length N and order, so what is computed for these rows fits the uncut ones. An objective's row is then
        a context; each has its row's payload and numbers, but shares tokens only with the contexts that begin like it.
        """
        if "fresh" not in self:
            return self
        cuts = np.flatnonzero(np.asarray(self["fresh"]) > 0)
        offsets = np.unique(np.concatenate([self.offsets, cuts]))
        starts = np.isin(offsets[:-1], self.offsets[:-1])
        owner = np.cumsum(starts) - 1  # the uncut row of each context
        mask, ids = np.asarray(self["loss_mask"], bool), self["token_ids"]
        lengths, prompts = np.zeros(len(owner), np.int32), np.zeros(len(owner), np.int32)
        numbers: dict[tuple[int, bytes], int] = {}
        for row, (start, end) in enumerate(pairwise(offsets)):
            sampled = np.flatnonzero(mask[start:end])
            first = int(sampled[0]) if len(sampled) else int(end - start)
            lengths[row] = self.prompt_lengths[owner[row]] if starts[row] else first
            key = (int(self.prompts[owner[row]]), ids[start : start + lengths[row]].tobytes())
            prompts[row] = numbers.setdefault(key, len(numbers))
        return replace(
            self,
            offsets=offsets,
            prompt_lengths=lengths,
            groups=self.groups[owner],
            payloads=tuple(self.payloads[row] for row in owner) if self.payloads else (),
            arrays={name: array[owner] for name, array in self.arrays.items()} | {"prompt": prompts},
        )

    @classmethod
    def from_rows(cls, samples: Sequence[Row]) -> Batch:
        """Lay samples end to end. All must carry the same extra streams and numbers."""
        names = ("token_ids", "loss_mask", "sampler_logprob", "policy_version", "advantage", "weight")
        streams: dict[str, Array] = {
            name: np.concatenate([getattr(sample, name) for sample in samples]) for name in names
        }
        for name in samples[0].extras:
            streams[name] = np.concatenate([sample.extras[name] for sample in samples])
        return cls(
            offsets=offsets_of([len(sample.token_ids) for sample in samples]),
            prompt_lengths=np.array([sample.prompt_length for sample in samples], np.int32),
            groups=np.array([sample.group for sample in samples], np.int32),
            streams=streams,
            payloads=tuple(sample.payload for sample in samples) if any(sample.payload for sample in samples) else (),
            arrays={name: np.array([sample.numbers[name] for sample in samples]) for name in samples[0].numbers},
        )


def offsets_of(lengths: Sequence[int] | Array) -> NDArray[np.int64]:
    """[0, l0, l0 + l1, ...]"""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.asarray(lengths, np.int64))])


def token_stream(name: str) -> str:
    """Name of the stream of a score by token, see `Group.token_scores`."""
    return f"token_score/{name}"
