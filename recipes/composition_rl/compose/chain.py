"""What is composed: chains of one problem or more, the links in them, and why a pair is not composed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from .identity import content_id


class CompositionError(ValueError):
    """What is asked for cannot be composed."""


class Reason(StrEnum):
    """Why a pair was dropped; one code a cause, counted by whoever asked for the pair."""

    SAME_SEED = "same_seed"  # a seed would stand twice in the chain
    NO_VALUE = "no_value"  # no rule gives a number v1 from the first answer
    NO_NUMBER = "no_number"  # the second text holds no number that may become a variable
    AMBIGUOUS_NUMBER = "ambiguous_number"  # every number of the second text stands there more than once
    SYMBOL_CLASH = "symbol_clash"  # both texts use the same variable symbol, or no two free ones are left
    V1_NOT_RECOVERED = "v1_not_recovered"  # recomputing v1 from the first problem gives something else
    V2_NOT_RECOVERED = "v2_not_recovered"  # comparing the second text with its original gives another v2
    LINK_WRONG = "link_wrong"  # X + delta is not v2
    LEAK = "leak"  # a value that must be found can be read off the composed text
    SHORTENED = "shortened"  # the modified second text is shorter than the original
    TAGS_MISSING = "tags_missing"  # a tagged field is absent from the composer's reply
    VALUE_NONE = "value_none"  # the composer says that there is no value
    PROGRAM_REFUSED = "program_refused"  # a generated program is unsafe
    PROGRAM_FAILED = "program_failed"  # it raised, printed nothing, or ran out of time, on every try
    TOO_LONG = "too_long"  # more tokens than a prompt may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How the answer of one problem enters the next: Y = X + delta, with delta = v2 - v1 (LaTeX, exact).

    Example: ``Link(symbol1="X", value1="13", symbol2="Y", value2="3", delta="-10", definition=..., relation=...)``
    """

    symbol1: str
    value1: str
    definition: str
    symbol2: str
    value2: str
    delta: str
    relation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One problem (a seed), or several that are linked; `own` is the part of `text` that is the first one's own words.

    A value of the chain may only be replaced inside `own`, so that the chain stays sequential. `symbols` are the names
    that links have used up.

    Example: ``seed_problem("What is 3 + 4?", "7")``
    """

    text: str
    answer: str
    seeds: tuple[str, ...]  # ids, first to last
    own: tuple[int, int]
    links: tuple[Link, ...] = ()  # first to last; one fewer than seeds
    domain: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)  # what a composer wants to keep beside it

    @property
    def depth(self) -> int:
        """K: the number of sub-problems."""
        return len(self.seeds)

    @property
    def id(self) -> str:
        """Stable identity: that of the seed, or of the chain's text and answer."""
        return self.seeds[0] if self.depth == 1 else content_id("chain", self.text, self.answer)

    @property
    def symbols(self) -> frozenset[str]:
        """Names of the variables that the links introduced."""
        return frozenset(name for link in self.links for name in (link.symbol1, link.symbol2))

    def record(self) -> dict[str, Any]:
        """A JSON row: question, answer, seeds and links; `from_record` reads it."""
        return {
            "question": self.text,
            "answer": self.answer,
            "seeds": list(self.seeds),
            "own": list(self.own),
            "links": [asdict(link) for link in self.links],
            "domain": self.domain,
        }

    @classmethod
    def from_record(cls, row: Mapping[str, Any]) -> Chain:
        """The chain that `record` wrote. Raises CompositionError on a row that is none."""
        try:
            return cls(
                text=str(row["question"]),
                answer=str(row["answer"]),
                seeds=tuple(map(str, row["seeds"])),
                own=(int(row["own"][0]), int(row["own"][1])),
                links=tuple(Link(**link) for link in row["links"]),
                domain=str(row.get("domain", "")),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CompositionError(f"no composed problem ({error!r})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A pair that is not composed.

    Example: ``Rejected(reason=Reason.NO_NUMBER, detail="no number outside the drawing")``
    """

    reason: Reason
    detail: str = ""


ChainOrRejected: TypeAlias = Chain | Rejected


def seed_problem(text: str, answer: str, id: str = "", domain: str = "", **notes: Any) -> Chain:
    """A chain of depth 1; its id is that of its text and answer unless one is given."""
    text = text.strip()
    return Chain(
        text=text,
        answer=answer,
        seeds=(id or content_id(text, answer),),
        own=(0, len(text)),
        domain=domain,
        notes=notes,
    )
