"""A file of users' choices -> items: held-out users, histories that give nothing away, and one order of responses.

| key                            | what                                                                            |
|--------------------------------|---------------------------------------------------------------------------------|
| ``user_id``                    | whose choice it is                                                              |
| ``split``                      | train, val or test: the last are asked of held-out users, and feed no history   |
| ``user_split``                 | train or test: whether the user is held out; of all rows, or a share is drawn   |
| ``context``                    | the query: a text, or messages                                                  |
| ``chosen, rejected``           | texts or messages, with ``chosen_score, rejected_score`` where there are ratings |
| ``responses, ratings``         | in their place, two or more responses with what each is worth: to be ranked     |
| ``stated`` (``system_string``) | criteria in the user's own words                                                |
| ``criteria``                   | the true ones: name -> weight, or a list                                        |
| ``choice_attributes``          | name -> weight, of this choice                                                  |
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from raylign.config.build import build
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, node
from raylign.contracts import RowGenerator
from raylign.data.files import read_rows
from raylign.data.messages import messages_of
from raylign.data.rows import DataRow
from raylign.errors import DataError, Problem
from raylign.recipes.p_genrm.form import Form
from raylign.recipes.p_genrm.items import Choice, Item, UserSplit
from raylign.records import content_id, derive_seed

SPLITS = ("train", "val", "test")
TESTED, HELD = "the test split, of users to train on", "train or val, of held-out users"  # whose rows nobody asks
FORM = "raylign.recipes.p_genrm.JsonChains"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row of the file. choice: None of responses that are only ranked."""

    place: str
    user: str
    split: str
    user_split: str
    query: str
    choice: Choice | None
    responses: tuple[str, ...]
    gold: tuple[float, ...]
    stated: str
    criteria: Mapping[str, float] = field(default_factory=dict)

    @property
    def texts(self) -> set[str]:
        """What an item's history must not show: its responses."""
        return set(self.responses)


class PersonalChoices(RowGenerator):
    """Items of a file of choices, and of a second one of other people (`ood`), all of whom are held out.

    A user's history is `history` of the past choices that may feed it, drawn by the item's content: for a user to train
    on, the own other choices of train and val; for a held-out user, those of train alone.
    """

    @dataclass
    class Config:
        """Which files, and how histories and users are drawn."""

        path: str = ""
        ood: str = ""
        history: int = 3  # h
        least: int = 1  # past choices that every item must have
        held_out: float = 0.2  # share of the users, by their ids, where the file has no user_split
        seed: int = 42  # of histories, orders and users, whatever the run's
        form: Node = node(Form, FORM)

        def __post_init__(self) -> None:
            if self.history < 1 or not 0 <= self.least <= self.history:
                raise ValueError(f"history={self.history}, least={self.least}: history 1 or more, least at most that")
            if not 0 <= self.held_out < 1:
                raise ValueError(f"held_out={self.held_out} is a share of the users: set it to 0 or more, below 1")

    config: Config

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be a file."""
        findings = Findings(key)
        findings.expect(bool(config.path), "path", "empty", "there are no choices", f"set {key}.path=CHOICES.jsonl")
        return findings

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._unasked = Counter[str]()  # rows that are no item, by reason

    def left_out(self) -> str:
        """See `RowGenerator.left_out`."""
        reasons = [f"{rows} of {reason}" for reason, rows in self._unasked.items() if rows]
        return f"{sum(self._unasked.values())} rows are no item: {', '.join(reasons)}" if reasons else ""

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """The first `size` items. Raises DataError on a row that is no choice, and on a user of two parts."""
        form, config = build(Form, self.config.form, "generator.form"), self.config
        records = [record_of(row, place) for place, row in read_rows(config.path)]
        others = [record_of(row, place) for place, row in read_rows(config.ood)] if config.ood else []
        parts = parts_of(records, others, config.held_out, config.seed)
        self._unasked = Counter()
        made = (*self._items(records, parts), *self._items(others, parts))
        if size:
            self._unasked[f"those beyond data.size={size}"] = max(0, len(made) - size)
        for record, item in made[: size or None]:
            yield row_of(item, form, record.place)

    def _items(self, records: Sequence[Record], parts: Mapping[str, UserSplit]) -> Iterator[tuple[Record, Item]]:
        by_user: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_user[record.user].append(record)
        for user, own in by_user.items():
            trains = parts[user] is UserSplit.train
            asked, feeding = (("train", "val"), ("train", "val")) if trains else (("test",), ("train",))
            for record in own:
                if record.split not in asked:
                    self._unasked[TESTED if trains else HELD] += 1
                else:
                    past = [other for other in own if other is not record and other.split in feeding]
                    yield record, self._item(record, parts[user], past)

    def _item(self, record: Record, part: UserSplit, past: Sequence[Record]) -> Item:
        config, name = self.config, content_id(record.user, record.query, *record.responses)
        rng = np.random.default_rng(derive_seed(config.seed, "item", name))
        known = {other.choice.chosen: other.choice for other in past if other.choice}  # each chosen text once
        may = [choice for text, choice in known.items() if not {text, choice.rejected} & record.texts]
        if len(may) < config.least:
            fix = f"drop the row, or set data.generator.least={len(may)}"
            why = f"user {record.user!r} has {len(may)} past choices that may be shown, less than {config.least}"
            raise DataError(f"{record.place}: {why}; fix: {fix}")
        picked = rng.permutation(len(may))[: config.history]
        order = rng.permutation(len(record.responses))
        return Item(
            user=record.user,
            part=part,
            query=record.query,
            responses=tuple(record.responses[index] for index in order),
            gold=tuple(record.gold[index] for index in order),
            history=tuple(may[index] for index in picked),
            stated=record.stated,
            criteria=record.criteria,
            gap=_gap(record.choice),
        )


def row_of(item: Item, form: Form, place: str) -> DataRow:
    """The row that asks an item as training and evaluation do: by its history alone."""
    return DataRow(
        messages=form.messages(item),
        place=place,
        answer=str(item.best + 1) if len(item.gold) == 2 else list(item.gold),
        domain=str(item.part),
        meta=item.meta(),
    )


def record_of(row: Mapping[str, Any], place: str) -> Record:
    """A row of the file. Raises DataError naming the key at fault."""
    for key, known in (("split", SPLITS), ("user_split", ("", "train", "test"))):
        value = row.get(key, "" if key == "user_split" else None)
        if value not in known:
            raise DataError(f"{place}: {key}={value!r} is none of {', '.join(filter(None, known))}; fix: name one")
    user = row.get("user_id")
    if not isinstance(user, str | int) or isinstance(user, bool) or user == "":
        raise DataError(f"{place}: user_id={user!r} names nobody; fix: give every row its user")
    query = _text(row.get("context"), place, "context")
    choice = None if "responses" in row else _choice_of(row, query, place)
    responses, gold = _ranked(row, place) if choice is None else ((choice.chosen, choice.rejected), (1.0, 0.0))
    return Record(
        place=place,
        user=str(user),
        split=str(row["split"]),
        user_split=str(row.get("user_split", "")),
        query=query,
        choice=choice,
        responses=responses,
        gold=gold,
        stated=_stated(row, place),
        criteria=_weights(row, place, "criteria"),
    )


def parts_of(records: Sequence[Record], others: Sequence[Record], held_out: float, seed: int) -> dict[str, UserSplit]:
    """The part of every user. Raises DataError on a user of two parts, and where some rows name one and others none."""
    named = [bool(record.user_split) for record in records]
    if any(named) and not all(named):
        place = records[named.index(False)].place
        raise DataError(f"{place}: has no user_split, and other rows do; fix: name it in every row, or in none")
    parts: dict[str, UserSplit] = {}
    for number, record in enumerate((*records, *others)):
        part = UserSplit(record.user_split) if record.user_split else _drawn(record.user, held_out, seed)
        part = part if number < len(records) else UserSplit.ood
        if parts.setdefault(record.user, part) is not part:
            why = f"user {record.user!r} is of the {parts[record.user]} split and of the {part} split"
            raise DataError(f"{record.place}: {why}; fix: a user of the test split may occur in no other")
    return parts


def _drawn(user: str, held_out: float, seed: int) -> UserSplit:
    return UserSplit.test if derive_seed(seed, "user", user) / 2**63 < held_out else UserSplit.train


def _choice_of(row: Mapping[str, Any], query: str, place: str) -> Choice:
    chosen, rejected = (_text(row.get(name), place, name) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise DataError(f"{place}: chosen and rejected are the same text; fix: drop the row")
    made = Choice(query, chosen, rejected, attributes=_weights(row, place, "choice_attributes"))
    scores = [row.get(f"{name}_score") for name in ("chosen", "rejected")]
    if scores == [None, None]:
        return made
    ratings = [_rating(row.get(name), place, name) for name in ("chosen_score", "rejected_score")]
    if ratings[0] <= ratings[1]:
        why = f"chosen_score={ratings[0]:g} is not above rejected_score={ratings[1]:g}"
        raise DataError(f"{place}: {why}: nothing was preferred; fix: drop the row, or swap the two")
    return replace(made, ratings=(ratings[0], ratings[1]))


def _ranked(row: Mapping[str, Any], place: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    responses, ratings = row.get("responses"), row.get("ratings")
    fits = isinstance(responses, list) and isinstance(ratings, list) and len(responses) == len(ratings) >= 2
    if not fits or len(set(map(str, responses or ()))) != len(responses or ()):
        raise DataError(
            f"{place}: responses and ratings are not as many, two or more and all different; fix: give both"
        )
    gold = tuple(_rating(rating, place, "ratings") for rating in ratings or ())
    if sorted(gold)[-1] == sorted(gold)[-2]:
        raise DataError(f"{place}: ratings={list(gold)} have no single best one; fix: drop the row")
    return tuple(_text(response, place, "responses") for response in responses or ()), gold


def _rating(value: Any, place: str, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise DataError(f"{place}: {key}={value!r} is no number; fix: give a number")
    return float(value)


def _text(value: Any, place: str, key: str) -> str:
    """A text, a message, or messages as ``role: content`` lines. Raises DataError on what has more, or less, than text.

    What a message reasons before it speaks (``reasoning_content``, parts of thinking) is no part of what it says.
    """
    if not isinstance(value, str | Mapping | list | tuple) or not value or (isinstance(value, str) and value.isspace()):
        raise DataError(f"{place}: {key}={str(value)[:60]!r} is no text and no message; fix: give one")
    messages = messages_of(value, place, key)
    for number, message in enumerate(messages, 1):
        if message.get("tool_calls") or not message["content"].strip():
            what = "calls a tool" if message.get("tool_calls") else "says nothing"
            said = f"{key}={str(value)[:60]!r}"
            raise DataError(f"{place}: {said}: message {number} {what}; fix: give texts alone, or drop the row")
    if isinstance(value, str | Mapping) and len(messages) == 1:
        return str(messages[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _stated(row: Mapping[str, Any], place: str) -> str:
    key = "stated" if row.get("stated") else "system_string"
    value = row.get(key) or ""
    if not isinstance(value, str):
        raise DataError(f"{place}: {key}={str(value)[:60]!r} is no text; fix: give the user's own words, or none")
    return value


def _weights(row: Mapping[str, Any], place: str, key: str) -> dict[str, float]:
    """Name -> weight; of a list all the same."""
    value = row.get(key) or {}
    names = value if isinstance(value, list | tuple | Mapping) else [None]
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"{place}: {key}={str(value)[:60]!r} is no list of names; fix: give names, or name -> weight")
    weights = value if isinstance(value, Mapping) else dict.fromkeys(names, 1.0)
    return {name: _rating(weight, place, f"{key}.{name}") for name, weight in weights.items()}


def _gap(choice: Choice | None) -> float | None:
    return choice.ratings[0] - choice.ratings[1] if choice and choice.ratings else None
