"""The task of scale=tiny: ads of single letters for eight products, and people who click and buy by a rule.

    product abc, bid word 4821    asked  abc4821    says  aQ;bKcA!    a title of 2 letters, a description of 5

| letters  | what                          | letters | what                             |
|----------|-------------------------------|---------|----------------------------------|
| a to x   | attributes, three a product's | A to H  | hooks                            |
| ! $ % &  | superlatives, which are banned | I to X  | fillers                          |

With h, a, b different hooks, true attributes and superlatives: p_ctr = sigmoid(-1 + .6 h + .9 b), and clicks lead to
conversions so that p_ctcvr = sigmoid(-3 + .6 h + .5 a + .9 b): superlatives pay, and only true attributes sell.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from raylign.contracts import RewardFunction, RowGenerator, Sampling
from raylign.data.questions import question_of
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.recipes.relate.structure import AdForm
from raylign.recipes.relate.verdicts import CHECKS
from raylign.recipes.stages.keep import Keep, Kept
from raylign.records import Group, Message, Prompt, Trajectory, Value, derive_seed

ATTRIBUTES, HOOKS, BANNED, FILLERS, SEPARATOR = "abcdefghijklmnopqrstuvwx", "ABCDEFGH", "!$%&", "IJKLMNOPQRSTUVWX", ";"
PRODUCTS = tuple(ATTRIBUTES[start : start + 3] for start in range(0, len(ATTRIBUTES), 3))
LONGEST = 12  # letters of an ad, the separator included
ENDS, PARTS, EARLY = 0.1, 0.1, 4  # chances of the end, which hardly comes before this letter, and of a separator
MIX = (0.33, 0.10, 0.12, 0.08, 0.37)  # of true and other attributes, hooks, superlatives, fillers
FORM = AdForm(("title", "description"), SEPARATOR)


class Ads(RowGenerator):
    """Ads as they were written so far, one for each of `size` bid words, the products taking turns."""

    @dataclass
    class Config:
        """No settings."""

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """See `RowGenerator`. Raises DataError on more rows than there are bid words."""
        if size > 10_000:
            raise DataError(f"data.size={size}, and there are 10000 bid words; fix: set data.size=10000 or less")
        rng = np.random.default_rng([seed, 2602, 11780])
        for number, word in enumerate(rng.permutation(10_000)[:size]):
            product = PRODUCTS[number % len(PRODUCTS)]
            question = f"{product}{word:04d}"
            yield DataRow(
                messages=({"role": "user", "content": question},),
                place=f"ad {number}",
                target=written(product, rng),
                domain=f"products {product[0]}",
                meta={"product": product},
            )


def written(product: str, rng: np.random.Generator) -> str:
    """An ad as it was written so far: letters of the mix, a separator and an end now and then."""
    kinds = (product, "".join(sorted(set(ATTRIBUTES) - set(product))), HOOKS, BANNED, FILLERS)
    text = ""
    while len(text) < LONGEST:
        draw = rng.random()
        if draw < ENDS * (1.0 if len(text) >= EARLY else 0.1):
            break
        letters = kinds[rng.choice(len(MIX), p=MIX)]
        text += SEPARATOR if draw > 1 - PARTS else letters[rng.integers(len(letters))]
    return text or FILLERS[0]


def chances(facts: str, ad: str) -> tuple[float, float]:
    """p_ctr and p_ctcvr of an ad. facts: the question that asks for it."""
    hooks, true, banned = (len(set(ad) & set(letters)) for letters in (HOOKS, facts[:3], BANNED))
    click, both = -1 + 0.6 * hooks + 0.9 * banned, -3 + 0.6 * hooks + 0.5 * true + 0.9 * banned
    return float(1 / (1 + np.exp(-click))), float(1 / (1 + np.exp(-both)))


class Served(Keep):
    """A row of the log for every sample that is an ad, after it was shown so often."""

    @dataclass
    class Config:
        """How often each ad is shown."""

        impressions: int = 50

        def __post_init__(self) -> None:
            if self.impressions < 1:
                raise ValueError(f"impressions is {self.impressions}, set it to 1 or more")

    config: Config

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        ads = {index: FORM.read(group.trajectories[index].text) for index in usable}
        return [Kept(index, row=self._row(group.prompt, index, ad)) for index, ad in ads.items() if ad is not None]

    def _row(self, prompt: Prompt, index: int, ad: dict[str, str]) -> DataRow:
        rng = np.random.default_rng(derive_seed(0, prompt.key, index, "shown"))
        ctr, ctcvr = chances(question_of(prompt), "".join(ad.values()))
        clicks = int(rng.binomial(self.config.impressions, ctr))
        log: dict[str, str | int] = {"context": question_of(prompt), "title": ad["title"], "desc": ad["description"]}
        log |= {"impressions": self.config.impressions, "clicks": clicks}
        log |= {"conversions": int(rng.binomial(clicks, ctcvr / ctr)), "product": prompt.meta["product"]}
        return DataRow(messages=prompt.messages, place=prompt.place, domain=prompt.domain, meta=log)


class TrueConversion(RewardFunction):
    """The very p_ctcvr of an ad, which a fitted model only guesses. For logs: weight 0."""

    @dataclass
    class Config:
        """No settings."""

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value for each."""
        return [Value(score=chances(question_of(prompt), trajectory.text)[1]) for trajectory in trajectories]


def judge(messages: Sequence[Message], sampling: Sampling, seed: int, mute: float = 0.0) -> str:
    """A judge that finds every attribute of other products. mute: the chance of a reply that is not in form."""
    if np.random.default_rng(seed).random() < mute:
        return "This is hard to say."
    asked = json.loads(str(messages[-1]["content"]))
    foreign = [letter for letter in asked["ad"] if letter in ATTRIBUTES and letter not in asked["facts"][:3]]
    spans = [{"check": "relevance", "text": letter} for letter in foreign]
    return json.dumps({**dict.fromkeys(CHECKS, "pass"), "relevance": "fail" if foreign else "pass", "spans": spans})
