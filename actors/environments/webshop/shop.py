"""WebShop as TSR plays it (arXiv 2602.11767): search, choose options, buy; the only reward is at the purchase.

A long episode with one reward at its end needs a score of its own for a search. The digest's [inferred] reads

    S = reward + 0.1 * goal_overlap + 0.05 * new_option

from the flags of a turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raylign.actors.environments.agent_format import AgentFormat, how_to_answer, words_of
from raylign.actors.environments.turns import AgentLimits, Played, Turns
from raylign.actors.environments.webshop.fuzzy import tokens
from raylign.actors.environments.webshop.goals import generated_goals, goal_index, read_goals
from raylign.actors.environments.webshop.pages import Page, Place, Shop
from raylign.actors.environments.webshop.products import catalogue
from raylign.actors.environments.webshop.reward import FUNCTION_WORDS, Goal, Verdict, purchase_reward
from raylign.environment import Environment, Observation
from raylign.records import Prompt

ACTION = re.compile(r"(search|click)\[(.*)\]", re.IGNORECASE | re.DOTALL)
CATALOGUE_SEED = 0
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
HINTS = (
    "Hints: search with the few words that name the product. Choose the options that the instruction asks for before "
    "you buy. Check the price. When nothing fits better, buy the best that you have seen."
)


class WebShop(Environment):
    """An instance is a goal: ``meta["env_seed"]`` by the rule of `goal_index`; ``meta["mode"]`` overrides the mode.

    Flags of a turn: those of every text environment (see `raylign.actors.environments.turns`), ``goal_overlap`` (share
    of the instruction's words, function words aside, that the page shows), ``new_option`` (a legal option was chosen
    that was not chosen before), ``page``; and after a purchase ``type``, ``attribute_hits``, ``option_hits``,
    ``price_hit``. In the format `letters` every legal action has a letter, and searching uses the instruction's own
    words.
    """

    shows_all = True

    @dataclass
    class Config(AgentLimits):
        """The shop and its goals (limits: TSR's for WebShop)."""

        turns: int = 9
        actions_per_turn: int = 1
        actions: int = 9
        mode: str = "train"  # train, val or test
        products: int = 50
        results_per_page: int = 10
        goals: int = 4000  # how many are made from the catalogue
        goals_file: str = ""  # a JSON list of instructions instead (those that the catalogue can satisfy are kept)
        test_goals: int = 500
        validation_goals: int = 1000

        def __post_init__(self) -> None:
            super().__post_init__()
            for key in ("products", "results_per_page", "goals", "test_goals", "validation_goals"):
                if getattr(self, key) < 1:
                    raise ValueError(f"{key} = {getattr(self, key)}: must be at least 1")
            if self.mode not in ("train", "val", "test"):
                raise ValueError(f"mode = {self.mode}: must be train, val or test")
            if self.format is AgentFormat.letters and self.results_per_page > len(LETTERS) - 3:
                raise ValueError(f"results_per_page = {self.results_per_page}: letters name {len(LETTERS) - 3} at most")

    def __init__(self, config: Config) -> None:
        """Raises DataError when the goals' file cannot be used."""
        self.config = config
        source = (config.goals_file, config.goals)
        self.shop, self.goals = _furnished(config.products, config.results_per_page, *source)
        self._turns = Turns(config)
        self._page = Page()
        self._goal: Goal | None = None

    @property
    def goal(self) -> Goal:
        """What the instruction asks for. Raises RuntimeError before `reset` or `restore`."""
        if self._goal is None:
            raise RuntimeError("WebShop was neither reset nor restored")
        return self._goal

    @property
    def page(self) -> Page:
        """Where the customer is."""
        return self._page

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        """See `Environment.reset`; the shop has no chance in it. Raises ValueError when the meta names no goal."""
        self._goal = self.goals[self._index(prompt.meta)]
        self._page, self._turns = Page(), Turns(self.config)
        text = self._view()
        if self.config.format is AgentFormat.answer:
            names = ("search[words]", "click[label]")
            text = f"You shop on a website.\n{HINTS}\n{how_to_answer(names, self.config.actions_per_turn)}\n\n{text}"
        else:
            text = f"{self.goal.instruction}\n{text}"
        return Observation(messages=({"role": "user", "content": text},), flags={"domain": "webshop"})

    def step(self, action: str) -> Observation:
        """See `Environment.step`. Raises RuntimeError when the episode is over."""
        cap = self._turns.cap
        before, legal, dropped = self._page, 0, 0
        verdict: Verdict | None = None
        for word in words_of(action, self.config.format)[:cap]:
            after = self._follow(word)
            if after is None:
                dropped += 1
                continue
            legal, self._page = legal + 1, after
            if after.place is Place.bought:
                verdict = purchase_reward(self.shop.products[after.item], dict(after.chosen), self.goal)
                break
        played = Played(
            reward=verdict.reward if verdict else 0.0,
            actions=legal,
            dropped=dropped,
            effective=self._page != before,
            success=verdict is not None and verdict.reward == 1,
            over=verdict is not None,
        )
        reward, flags = self._turns.end(played)
        messages = () if self._turns.done else ({"role": "user", "content": self._view(not played.valid)},)
        facts = {**flags, **self._facts(before), **_parts(verdict)}
        return Observation(messages=messages, reward=reward, done=self._turns.done, flags=facts)

    def snapshot(self) -> Any:
        """See `Environment.snapshot`."""
        return self.goal, self._page, self._turns.state()

    def restore(self, state: Any) -> None:
        """See `Environment.restore`."""
        self._goal, self._page, turns = state
        self._turns = Turns(self.config)
        self._turns.restore(turns)

    def actions(self) -> tuple[str, ...]:
        """The legal actions of the page; a search stands for every search."""
        clicks = (f"click[{label}]" for label in self.shop.labels(self._page))
        search = ("search[words]",) if self._page.place is Place.search else ()
        return (*search, *clicks)

    def _index(self, meta: Mapping[str, Any]) -> int:
        seed = meta.get("env_seed")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"webshop: the prompt's meta names no instance: give env_seed (an integer), not {seed!r}")
        config = self.config
        mode = str(meta.get("mode", config.mode))
        return goal_index(mode, seed, len(self.goals), config.test_goals, config.validation_goals)

    def _follow(self, word: str) -> Page | None:
        """The page that an action leads to, None when it is not legal here."""
        if self.config.format is AgentFormat.letters:
            choices = dict(zip(LETTERS, self.actions(), strict=False))
            if word not in choices:
                return None
            word = choices[word]
            if word == "search[words]":
                return self.shop.find(self.goal.instruction)
        match = ACTION.fullmatch(word.strip())
        if match is None:
            return None
        verb, label = match[1].lower(), match[2].strip().lower()
        if verb == "search":
            return self.shop.find(label) if self._page.place is Place.search and label else None
        return self.shop.click(self._page, label) if label in self.shop.labels(self._page) else None

    def _view(self, misread: bool = False) -> str:
        if self.config.format is AgentFormat.letters:
            return "\n".join(f"{letter} {name}" for letter, name in zip(LETTERS, self._short(), strict=False))
        note = "The last answer held no action that is legal here, or one that is not.\n" if misread else ""
        return (
            f"{note}Instruction: {self.goal.instruction}\n{self.shop.text(self._page)}\n"
            f"Legal actions: {', '.join(self.actions())}\nActions left: {self._turns.left}."
        )

    def _short(self) -> list[str]:
        """The legal actions in few words: products by title and price, choices with a mark."""
        lines = {self.shop.products[n].asin.lower(): self.shop.line(n).partition("  ")[2] for n in self._page.results}
        chosen = {value for _, value in self._page.chosen}
        search = ["search"] if self._page.place is Place.search else []
        labels = [lines.get(label, label) for label in self.shop.labels(self._page)]
        return [*search, *(f"{label} *" if label in chosen else label for label in labels)]

    def _facts(self, before: Page) -> dict[str, Any]:
        wanted = {word for word in tokens(self.goal.instruction) if word not in FUNCTION_WORDS}
        shown = set(tokens(self.shop.text(self._page)))
        chosen = set(self._page.chosen) - set(before.chosen)
        return {
            "goal_overlap": len(wanted & shown) / len(wanted) if wanted else 0.0,
            "new_option": bool(chosen),
            "page": self._page.place.value,
        }


def _parts(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {}
    hits = {"attribute_hits": verdict.attribute_hits, "option_hits": verdict.option_hits}
    return {"type": verdict.type, **hits, "price_hit": verdict.price_hit}


@lru_cache(maxsize=8)
def _furnished(count: int, per_page: int, goals_file: str, goals: int) -> tuple[Shop, tuple[Goal, ...]]:
    """Episodes are single-use, shops are not: one per setting and process."""
    products = catalogue(count, CATALOGUE_SEED)
    tasks = (
        read_goals(goals_file, products, CATALOGUE_SEED)
        if goals_file
        else generated_goals(products, goals, CATALOGUE_SEED)
    )
    return Shop(products, per_page), tuple(tasks)
