"""Shopping goals: made from the catalogue, or read from real instructions that the catalogue can satisfy.

A file of goals is a JSON list of instructions (WebShop's ``human_goals.json``), texts without labels. What one asks for
is read by a rule [inferred]: its kind is the longest search phrase of the catalogue among its words, its attributes are
the kind's attribute phrases that it contains, its options the option values among its other words (the first of each
group). An instruction is kept when it has at least one attribute and a product of that kind has all of these; the
first such product is the target. As in WebShop a price cap is then drawn above the target's price and told.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from raylign.actors.environments.webshop.fuzzy import tokens
from raylign.actors.environments.webshop.products import Product
from raylign.actors.environments.webshop.reward import Goal
from raylign.errors import DataError

CAPS = tuple(10.0 * step for step in range(1, 100))
CAPS_TO_DRAW_FROM = 4  # the lowest ones above the price
PERMUTATION_SEED = 42


def generated_goals(products: Sequence[Product], count: int, seed: int) -> list[Goal]:
    """`count` goals, each made for a product drawn at random: 1 or 2 attributes, one value of every option group."""
    rng = random.Random(seed)
    return [_generated(rng.choice(products), rng) for _ in range(count)]


def read_goals(path: str, products: Sequence[Product], seed: int) -> list[Goal]:
    """The instructions of a file that the catalogue can satisfy, in the file's order.

    Raises DataError when the file is absent, is no list of texts, or none of it suits the catalogue.
    """
    try:
        texts = json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"goals_file = {path}: cannot be read ({error}); name a JSON list of instructions") from error
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"goals_file = {path}: is no JSON list of instructions")
    rng = random.Random(seed)
    goals = [goal for text in texts for goal in _labelled(text, products, rng)]
    if not goals:
        raise DataError(f"goals_file = {path}: no instruction suits the catalogue of {len(products)} products")
    return goals


def goal_index(mode: str, seed: int, goals: int, test: int = 500, validation: int = 1000) -> int:
    """Which goal a seed means: test and validation goals stand first, then the permutation (seed 42) is applied.

    With the defaults: test = seed mod 500, val = seed mod 1000 + 500, train = seed mod (goals - 1500) + 1500. Raises
    ValueError on another mode or when there are too few goals.
    """
    if goals <= test + validation:
        raise ValueError(
            f"{goals} goals are too few for {test} test and {validation} validation goals: lower test_goals and "
            "validation_goals, or raise goals"
        )
    places = {
        "test": lambda: seed % test,
        "val": lambda: seed % validation + test,
        "train": lambda: seed % (goals - test - validation) + test + validation,
    }
    if mode not in places:
        raise ValueError(f"mode = {mode}: there are {', '.join(places)}")
    return _permutation(goals)[places[mode]()]


@lru_cache(maxsize=8)
def _permutation(count: int) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(PERMUTATION_SEED).shuffle(order)
    return tuple(order)


def _generated(product: Product, rng: random.Random) -> Goal:
    attributes = tuple(rng.sample(product.attributes, rng.randint(1, min(2, len(product.attributes)))))
    options = {group: rng.choice(values) for group, values in product.options}
    text = f"i am looking for {', '.join(attributes)} {product.query}"
    if options:
        text += " with " + ", ".join(f"{group} {value}" for group, value in options.items())
    return _goal(text, product, attributes, tuple(options.values()), rng)


def _labelled(text: str, products: Sequence[Product], rng: random.Random) -> Iterator[Goal]:
    words = f" {' '.join(tokens(text))} "
    named = [query for query in {product.query for product in products} if _phrase(query) in words]
    if not named:
        return
    query = max(named, key=lambda name: (len(name), name))
    same = [product for product in products if product.query == query]
    known = sorted({attribute for product in same for attribute in product.attributes})
    attributes = tuple(attribute for attribute in known if _phrase(attribute) in words)
    if not attributes:
        return
    rest = words
    for phrase in (query, *attributes):  # the size in "king size" is no second wish
        rest = rest.replace(_phrase(phrase), " ")
    groups: dict[str, list[str]] = {}
    for product in same:
        for group, values in product.options:
            groups.setdefault(group, []).extend(values)
    first = {
        group: next((v for v in _longest_first(values) if _phrase(v) in rest), "") for group, values in groups.items()
    }
    options = tuple(value for value in first.values() if value)
    for product in same:
        offered = {value for _, group in product.options for value in group}
        if set(attributes) <= set(product.attributes) and set(options) <= offered:
            yield _goal(text.strip().rstrip("."), product, attributes, options, rng)
            return


def _goal(
    text: str, product: Product, attributes: tuple[str, ...], options: tuple[str, ...], rng: random.Random
) -> Goal:
    cap = rng.choice([cap for cap in CAPS if cap > product.price][:CAPS_TO_DRAW_FROM])
    return Goal(
        instruction=f"{text}, and price lower than {cap:.2f} dollars",
        query=product.query,
        category=product.category,
        title=product.title,
        title_attributes=product.attributes,
        attributes=attributes,
        options=options,
        price_cap=cap,
    )


def _phrase(text: str) -> str:
    """The words of a phrase, to be found whole among the words of a text."""
    return f" {' '.join(tokens(text))} "


def _longest_first(values: Sequence[str]) -> list[str]:
    return sorted(set(values), key=lambda value: (-len(value), value))
