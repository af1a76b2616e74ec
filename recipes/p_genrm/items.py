"""What is judged: two or more responses to a query, for a user who is known by past choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from raylign.errors import DataError
from raylign.records import Prompt

ITEM = "item"  # key of a prompt's meta
TEXTS = ("query", "chosen", "rejected")


class UserSplit(StrEnum):
    """Which users an item is of. No user is of two parts."""

    train = "train"  # whose items train, are mined, and make the prototypes
    test = "test"  # held out
    ood = "ood"  # held out, of another data set


@dataclass(frozen=True, slots=True)
class Choice:
    """One past turn. Example: ``Choice("Any tips?", chosen="Yes: ...", rejected="No.", ratings=(80, 20))``

    ratings: of both, on any scale, and attributes (name -> weight) that the user gave for it: only teachers read them.
    """

    query: str
    chosen: str
    rejected: str
    ratings: tuple[float, float] | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Responses in the order in which every chain about them sees them, and what is known of them and their user.

    Example: ``Item(user="u7", part=UserSplit.test, query="q", responses=("a", "b"), gold=(0, 1), ...)``
    """

    user: str
    part: UserSplit
    query: str
    responses: tuple[str, ...]
    gold: tuple[float, ...]  # what each is worth to the user; of a pair 1 (chosen) and 0
    history: tuple[Choice, ...] = ()
    stated: str = ""  # E, criteria in the user's own words
    criteria: Mapping[str, float] = field(default_factory=dict)  # the true ones with their weights
    gap: float | None = None  # between the ratings of a pair

    @property
    def best(self) -> int:
        """The response that the user likes best."""
        return max(range(len(self.gold)), key=self.gold.__getitem__)

    def meta(self) -> dict[str, Any]:
        """What a prompt carries of it: JSON types."""
        plain = asdict(self)
        lists = {"responses": list(self.responses), "gold": list(self.gold), "part": str(self.part)}
        history = [{**asdict(choice), "ratings": choice.ratings and list(choice.ratings)} for choice in self.history]
        return {ITEM: {**plain, **lists, "history": history}}


def item_of(meta: Mapping[str, Any], place: str) -> Item:
    """The item that a prompt or a row carries. Raises DataError where there is none."""
    plain = meta.get(ITEM)
    if not isinstance(plain, Mapping):
        fix = "take its rows from raylign.recipes.p_genrm.PersonalChoices, or from a stage that asked them"
        raise DataError(f"{place}: has no {ITEM!r} in its meta, the user's history and the responses; fix: {fix}")
    changed = {
        "part": UserSplit(plain["part"]),
        "responses": tuple(plain["responses"]),
        "gold": tuple(plain["gold"]),
        "history": choices(plain["history"], place),
    }
    return Item(**{**plain, **changed})


def of_prompt(prompt: Prompt) -> Item:
    """The item of a prompt."""
    return item_of(prompt.meta, prompt.place or prompt.id)


def choices(history: Any, place: str) -> tuple[Choice, ...]:
    """Past choices as a column holds them. Raises DataError on what is none."""
    if not isinstance(history, list | tuple):
        raise DataError(f"{place}: {str(history)[:60]!r} is no list of past choices; fix: give query, chosen, rejected")
    made = []
    for number, choice in enumerate(history, 1):
        texts = {name: choice.get(name) for name in TEXTS} if isinstance(choice, Mapping) else dict[str, Any]()
        if not texts or not all(isinstance(text, str) for text in texts.values()):
            lacking = next((name for name in TEXTS if not isinstance(texts.get(name), str)), TEXTS[0])
            why = f"past choice {number} has no text {lacking!r}"
            raise DataError(f"{place}: {why}; fix: give each query, chosen and rejected, as texts")
        ratings = choice.get("ratings")
        made.append(Choice(**texts, ratings=ratings and tuple(ratings), attributes=choice.get("attributes") or {}))
    return tuple(made)


def refuse_held_out(items: Sequence[tuple[str, Item]], what: str) -> None:
    """Raises DataError where a held-out user would take part. items: with their places."""
    held = [(place, item) for place, item in items if item.part is not UserSplit.train]
    if held:
        place, item = held[0]
        view = "set its view to {_target_: raylign.recipes.p_genrm.Asked, part: train}"
        raise DataError(f"{place}: user {item.user!r} of the {item.part} split would take part in {what}; fix: {view}")
