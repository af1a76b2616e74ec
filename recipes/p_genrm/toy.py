"""The task of scale=tiny: sets of letters, of which every user likes one always and another by the situation.

    user      likes a always (6), e in situation x and c in situation y (4 each)
    item      xad>cf;yac>de;xef>bd|yab/cd      three past choices, then a situation and two responses
    chain     ac;a6c4;64                       what is liked here; the weights; the total of each response

A history shows the situation's second letter only where one of its choices was made in that situation, so that the
choices of like users help. The teacher is told what is liked, and names a wrong letter now and then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from raylign.contracts import RowGenerator, Sampling
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.recipes.p_genrm.choices import row_of
from raylign.recipes.p_genrm.form import Chain, Form
from raylign.recipes.p_genrm.items import Choice, Item, UserSplit
from raylign.records import Message

LETTERS, SITUATIONS, WEIGHTS = "abcdef", "xy", (6, 4)
RESPONSES = tuple(map("".join, combinations(LETTERS, 2)))
CHAIN = re.compile(r"([a-f]+);((?:[a-f]\d)+);(\d+)")
STATED, TEACHING = "!", "?"


class LetterChains(Form):
    """Questions and chains of letters, as in the module's example; totals are single digits."""

    @dataclass
    class Config:
        """No settings."""

    def messages(self, item: Item, stated: bool = False, teacher: bool = False) -> tuple[Message, ...]:
        """See `Form.messages`."""
        past = ";".join(f"{choice.query}{choice.chosen}>{choice.rejected}" for choice in item.history)
        text = f"{past}|{item.query}{'/'.join(item.responses)}"
        text += f"{STATED}{item.stated}" if stated or teacher else ""
        return ({"role": "user", "content": f"{text}{TEACHING if teacher else ''}"},)

    def parse(self, text: str, responses: int) -> Chain | None:
        """See `Form.parse`."""
        said = CHAIN.fullmatch(text.strip())
        if said is None or len(said[3]) != responses:
            return None
        weights = {said[2][at]: 10.0 * int(said[2][at + 1]) for at in range(0, len(said[2]), 2)}
        return Chain(tuple(map(float, said[3])), said[1], weights)

    def write(self, scores: Sequence[float], weights: Mapping[str, float], analysis: str) -> str:
        """See `Form.write`."""
        shown = "".join(f"{name}{round(weight / 10)}" for name, weight in weights.items())
        return f"{analysis or ''.join(weights)};{shown};{''.join(str(min(round(score), 9)) for score in scores)}"


class Letters(RowGenerator):
    """Users of a few kinds, with four items each. Every eighth user is held out; of these every fourth is of kinds that
    nobody else is of (ood).
    """

    @dataclass
    class Config:
        """How many kinds there are, and how many choices a history shows."""

        kinds: int = 24
        unseen: int = 8  # further kinds, of ood alone
        history: int = 3
        clear: int = 6  # what the chosen response of a past choice is worth above the rejected one, at least
        items: int = 4  # of each user

        def __post_init__(self) -> None:
            if min(self.kinds, self.unseen, self.history, self.items) < 1 or self.kinds + self.unseen > 120:
                raise ValueError(f"kinds={self.kinds} and unseen={self.unseen} must be 1 or more, at most 120 together")
            if not 0 <= self.clear <= sum(WEIGHTS):
                raise ValueError(f"clear={self.clear}: no choice is clearer than {sum(WEIGHTS)}, set it to 0 or more")

    config: Config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """`size` items; kinds are the same for every seed. Raises DataError on fewer than 64 users."""
        config, form = self.config, LetterChains(LetterChains.Config())
        if size < 32 * config.items:
            least = 32 * config.items
            raise DataError(f"data.size={size} has no user of every split; fix: set data.size={least} or more")
        every = np.random.default_rng(2602).permutation(list(permutations(LETTERS, 3)))
        rng = np.random.default_rng([seed, 2602, 12116])
        for number in range(size):
            user = number // config.items
            part = UserSplit.train if user % 8 else UserSplit.test if user % 32 else UserSplit.ood
            if not number % config.items:
                low, high = (config.kinds, config.kinds + config.unseen) if part is UserSplit.ood else (0, config.kinds)
                kind = "".join(every[rng.integers(low, high)])
            past = tuple(
                choice_of(kind, str(rng.choice(list(SITUATIONS))), rng, config.clear) for _ in range(config.history)
            )
            yield row_of(item_of(f"user {user}", part, kind, past, rng), form, f"item {number}")


def item_of(user: str, part: UserSplit, kind: str, past: tuple[Choice, ...], rng: np.random.Generator) -> Item:
    """An item of a user of a kind."""
    situation = str(rng.choice(list(SITUATIONS)))
    choice = choice_of(kind, situation, rng)
    best = int(rng.integers(2))
    responses = (choice.chosen, choice.rejected) if best == 0 else (choice.rejected, choice.chosen)
    weights = liked(kind, situation)
    return Item(
        user=user,
        part=part,
        query=situation,
        responses=responses,
        gold=tuple(float(total(response, weights)) for response in responses),
        history=past,
        stated="".join(f"{letter}{weight}" for letter, weight in weights.items()),
        criteria={letter: 10.0 * weight for letter, weight in weights.items()},
        gap=float(total(choice.chosen, weights) - total(choice.rejected, weights)),
    )


def choice_of(kind: str, situation: str, rng: np.random.Generator, clear: int = 0) -> Choice:
    """Two responses of different worth, at least `clear` apart, with the user's choice."""
    weights = liked(kind, situation)
    while True:
        pair = [RESPONSES[index] for index in rng.choice(len(RESPONSES), 2, replace=False)]
        worth = [total(response, weights) for response in pair]
        if abs(worth[0] - worth[1]) >= max(clear, 1):
            return Choice(situation, *(pair if worth[0] > worth[1] else pair[::-1]))


def liked(kind: str, situation: str) -> dict[str, int]:
    """Letter -> weight, of a user of a kind in a situation."""
    return dict(zip((kind[0], kind[1 + SITUATIONS.index(situation)]), WEIGHTS, strict=True))


def total(response: str, weights: Mapping[str, int]) -> int:
    """The worth of a response."""
    return sum(weight for letter, weight in weights.items() if letter in response)


def teacher(messages: Sequence[Message], sampling: Sampling, seed: int, wrong: float = 0.4) -> str:
    """A chain by the stated criteria, of which one is replaced by another letter with chance `wrong`."""
    rng = np.random.default_rng(seed)
    question, _, stated = str(messages[-1]["content"]).removesuffix(TEACHING).partition(STATED)
    weights = {stated[at]: int(stated[at + 1]) for at in range(0, len(stated), 2)}
    if rng.random() < wrong:
        gone = str(rng.choice(list(weights)))
        other = str(rng.choice([letter for letter in LETTERS if letter not in weights]))
        weights = {other if letter == gone else letter: weight for letter, weight in weights.items()}
    responses = question.rpartition("|")[2][1:].split("/")
    percent = {letter: 10.0 * weight for letter, weight in weights.items()}
    form = LetterChains(LetterChains.Config())
    return form.write([total(response, weights) for response in responses], percent, "".join(weights))


def judge(messages: Sequence[Message], sampling: Sampling, seed: int, spurious: float = 0.1) -> str:
    """A judge of coverage: the true weights of the criteria that a chain names with a weight above 0, less `spurious`
    for every other one that it names.
    """
    asked = json.loads(str(messages[-1]["content"]))
    true = {name: weight / sum(asked["criteria"].values()) for name, weight in asked["criteria"].items()}
    chain = LetterChains(LetterChains.Config()).read(asked["reasoning"], 2)
    named = [name for name, weight in (chain.weights if chain else {}).items() if weight > 0]
    covered = sum(true.get(name, -spurious) for name in named)
    return f"{min(max(covered, 0.0), 1.0):.4f}"


def reader(messages: Sequence[Message], sampling: Sampling, seed: int, mute: bool = False) -> str:
    """A judge as the trained model should be: letters that were chosen and never rejected are liked, all alike.

    mute: it says nothing in form.
    """
    past, _, asked = str(messages[-1]["content"]).rpartition("|")
    pairs = [choice[1:].split(">") for choice in past.split(";") if choice]
    chosen, rejected = (set("".join(pair[side] for pair in pairs)) for side in (0, 1))
    weights = dict.fromkeys(sorted(chosen - rejected), 4)
    form = LetterChains(LetterChains.Config())
    scores = [total(response, weights) for response in asked[1:].split("/")]
    return "" if mute else form.write(scores, dict.fromkeys(weights, 40.0), "")


def answers(messages: Sequence[Message], sampling: Sampling, seed: int) -> str:
    """A policy that answers with two letters at random."""
    return str(np.random.default_rng(seed).choice(RESPONSES))
