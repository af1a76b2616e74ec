"""The proof of a weight update: the engine's bytes changed where the published ones did, and its log-probs agree.

Bytes. Every published tensor comes with the digest of its bytes, and the engine tells the digest of every parameter
and packed copy that it computes with. An engine tensor must change exactly when one of its published sources did. So a
tensor that stayed behind is found even where its meaning differs by less than rounding. Before its first update an
engine is loaded with decoys, numbers that differ from the published ones in every place: then all must change.

Meaning. The mean gap of the probe's log-probs at an engine's first update is the noise floor of the two programs on
this model, measured on weights that bytes have proven; above `spec.max_gap` that update is refused. Later gaps may
reach three times the floor. An engine that is rebuilt, and every engine of a resumed run, measures its own floor, on
the rows of the run's first version.

Limits. A tensor whose published name cannot be told, or whose dtype is not the published one, may change only when
something was published, but need not. Bytes that changed to something wrong are found by meaning only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raylign.actors.rollout.engine import Gap, Layout
from raylign.errors import EngineDeadError

SPREAD = 3.0  # of a later gap over the floor
# What rounding alone may reach on a probe whose first gap was luckily small; a fifth and a tenth of the refusal.
RESOLUTION = {"bfloat16": 0.01, "float32": 1e-5}
EXPERT = re.compile(r"(?P<all>.*)\[(?P<number>\d+)\]")
EXPERTS = {"w13": ("gate", "up_proj", "w1.", "w3."), "w2": ("down", "w2.")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Digests of what an engine computes with, all tensor-parallel ranks together.

    Example: ``Held(digests={"model.norm.weight": "9f..."}, dtypes={"model.norm.weight": "bfloat16"}, fused={})``
    """

    digests: Mapping[str, str]  # by vLLM's names; a packed copy ends in `.packed`, one of several experts in `[7]`
    dtypes: Mapping[str, str]
    fused: Mapping[str, Sequence[str]]  # qkv_proj -> q_proj, k_proj, v_proj

    @classmethod
    def merge(cls, ranks: Sequence[Mapping[str, Mapping[str, object]]]) -> Held:
        """From what `held.held_digests` gave on every rank: a shard alone may stay while its tensor changes."""
        names = list(ranks[0]["digests"])
        return cls(
            digests={name: "+".join(str(rank["digests"][name]) for rank in ranks) for name in names},
            dtypes={name: str(ranks[0]["dtypes"][name]) for name in names},
            fused={name: [str(part) for part in parts] for name, parts in ranks[0]["fused"].items()},  # type: ignore[attr-defined]
        )


class Proof:
    """What one engine has proven so far. Both checks raise EngineDeadError."""

    def __init__(self, dtype: str, ceiling: float) -> None:
        self._resolution, self._ceiling = RESOLUTION[dtype], ceiling
        self._floor: float | None = None
        self._before: tuple[Mapping[str, str], Held] | None = None

    @property
    def fresh(self) -> bool:
        """Whether the engine has had no update, so that decoys must be loaded before the first."""
        return self._before is None

    def begin(self, decoys: Held) -> None:
        """What the engine holds of the decoys; nothing of it was published."""
        self._before = ({}, decoys)

    def bytes(self, version: int, layout: Layout, published: Mapping[str, str], held: Held) -> None:
        """Each engine tensor changed since the last update, or the decoys, exactly when its published sources did."""
        if self._before is None:
            raise EngineDeadError(f"weights of version {version} cannot be proven: no decoys were loaded before them")
        (old, old_held), self._before = self._before, (dict(published), held)
        first = not old
        dtypes = {name: dtype.removeprefix("torch.") for name, dtype, _, _ in layout}
        changed = {name for name, digest in published.items() if old.get(name) != digest}
        sources = Sources(published, held.fused)
        for name, digest in held.digests.items():
            moved = old_held.digests.get(name) != digest
            known = [source for source in sources.of(name) if first or dtypes.get(source) == held.dtypes[name]]
            if known and not moved and changed.intersection(known):
                what = f"{name} of the engine did not change with {', '.join(sorted(changed.intersection(known))[:2])}"
            elif moved and not (changed.intersection(known) if known else changed):
                what = f"{name} of the engine changed, and what was published for it did not"
            else:
                continue
            raise EngineDeadError(f"weights of version {version} are not live: {what}")

    @property
    def limit(self) -> float:
        """Of the next gap (nat)."""
        return self._ceiling if self._floor is None else max(SPREAD * self._floor, self._resolution)

    def meaning(self, version: int, gap: Gap) -> Gap:
        """The gap itself, if it is small enough."""
        if self._floor is None:
            if gap.mean > self._ceiling:
                raise EngineDeadError(
                    f"weights of version {version} are not live: at the engine's first update the probe's log-probs "
                    f"differ from the learner's by {gap.mean:.3g} nat on average, {gap.max:.3g} at most; above "
                    f"{self._ceiling:g} the two do not compute the same model; fix: compare dtypes and model files; "
                    "where a router of experts decides by rounding, raise rollout.max_publish_gap"
                )
            self._floor = gap.mean
            return gap
        limit = self.limit
        if gap.mean > limit:
            raise EngineDeadError(
                f"weights of version {version} are not live: the probe's log-probs differ from the learner's by "
                f"{gap.mean:.3g} nat on average (limit {limit:.3g}, at the first update {self._floor:.3g}), "
                f"{gap.max:.3g} at most"
            )
        return gap


class Sources:
    """Finds the published tensors that an engine tensor is made of, by the part of the name behind any prefix."""

    def __init__(self, published: Mapping[str, str], fused: Mapping[str, Sequence[str]]) -> None:
        self._fused = fused
        self._names: dict[str, list[str]] = {}
        for name in published:
            self._names.setdefault(_tail(name), []).append(name)

    def of(self, name: str) -> list[str]:
        """Published names, empty where they cannot be told."""
        if (expert := EXPERT.fullmatch(name)) is not None:
            return [source for source in self.of(expert["all"]) if f".experts.{expert['number']}." in source]
        packed = name.endswith(".packed")
        plain = name.removesuffix(".packed") + ".weight" if packed else name
        tail = _tail(plain)
        if ".experts." in plain and (kind := next((k for k in EXPERTS if f".{k}_" in plain), "")):
            prefix = tail.partition(".experts.")[0] + ".experts."
            return [
                n
                for t, names in self._names.items()
                if t.startswith(prefix) and any(mark in t.removeprefix(prefix) + "." for mark in EXPERTS[kind])
                for n in names
            ]
        tails = [tail]
        for whole, parts in self._fused.items():
            if f".{whole}." in f".{tail}":
                tails = [f".{tail}".replace(f".{whole}.", f".{part}.", 1)[1:] for part in parts]
        if packed and tail == "lm_head.weight" and tail not in self._names:
            tails = ["embed_tokens.weight"]  # a tied head
        groups = [self._names.get(t, []) for t in tails]
        # Two towers with layers of one name: which of them it is cannot be told.
        return [group[0] for group in groups] if all(len(group) == 1 for group in groups) else []


def _tail(name: str) -> str:
    """``language_model.model.layers.0.mlp.x`` -> ``layers.0.mlp.x``; ``model.norm.weight`` -> ``norm.weight``."""
    _, layers, rest = name.partition("layers.")
    return layers + rest if layers else ".".join(name.split(".")[-2:])
