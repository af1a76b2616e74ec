"""WebShop's reward of a purchase, in [0, 1].

    r = r_type * (attribute hits + option hits + [price <= cap]) / (attributes + options + 1)

r_type is 1 when the search phrase is the same, or at least 2 levels of the category are shared, or the title's nouns
overlap by more than 0.2; else 0.5. An overlap below 0.1 makes it 0.1 and no overlap 0, whatever else matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raylign.actors.environments.webshop.fuzzy import COLOURS, plain_colour, token_set_ratio, tokens
from raylign.actors.environments.webshop.products import Product

ALIKE = 85.0  # token-set ratios above this are hits
NO_NOUNS = 0.2  # overlap with a title that has no nouns
FUNCTION_WORDS = frozenset(
    tokens(
        "a about after all also am an and any are as at be been but by can could do each every find for from get "
        "has have he her his i id if im in into is it its like look looking made make me more most my need no non "
        "not of off on one only or our out over please should so some something such than that the their them then "
        "there these they this those to too under up use used very want was we were what when which who will with "
        "would you your lower price dollars set pack oz ounce inch inches ft cm mm count piece pieces"
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What an instruction asks for.

    Example: ``Goal(instruction="i need black jeans", title="...", options=("black",), price_cap=40.0, ...)``
    """

    instruction: str
    query: str
    category: str
    title: str  # of the product that the goal was made for
    title_attributes: tuple[str, ...]  # of the same product: words of its title that describe and do not name
    attributes: tuple[str, ...]
    options: tuple[str, ...]
    price_cap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The reward of a purchase and its parts."""

    reward: float
    type: float
    attribute_hits: int
    option_hits: int
    price_hit: bool


def purchase_reward(product: Product, chosen: Mapping[str, str], goal: Goal) -> Verdict:
    """What buying `product` with the `chosen` options earns."""
    kind = type_reward(product, goal)
    attributes = sum(_has(product, attribute) for attribute in goal.attributes)
    options = option_hits(tuple(chosen.values()), goal.options)
    affordable = product.price <= goal.price_cap
    parts = len(goal.attributes) + len(goal.options) + 1
    return Verdict(
        reward=kind * (attributes + options + affordable) / parts,
        type=kind,
        attribute_hits=attributes,
        option_hits=options,
        price_hit=affordable,
    )


def type_reward(product: Product, goal: Goal) -> float:
    """r_type: 1, 0.5, 0.1 or 0."""
    shared = set(_levels(product.category)) & set(_levels(goal.category))
    overlap = title_overlap(product, goal)
    if overlap == 0:
        return 0.0
    if overlap < 0.1:
        return 0.1
    return 1.0 if product.query == goal.query or len(shared) >= 2 or overlap > 0.2 else 0.5


def title_overlap(product: Product, goal: Goal) -> float:
    """Share of the goal title's nouns that are nouns of the product's title; 0.2 when the goal's has none."""
    wanted = title_nouns(goal.title, goal.title_attributes)
    return len(wanted & title_nouns(product.title, product.attributes)) / len(wanted) if wanted else NO_NOUNS


def title_nouns(title: str, attributes: Sequence[str]) -> frozenset[str]:
    """The words of a title that name things, by a rule instead of a tagger [inferred].

    What is left of its words of three letters or more after function words, units, numbers, colours, and the words of
    the product's attributes (which describe) are taken away.
    """
    describing = {word for attribute in attributes for word in tokens(attribute)}
    return frozenset(
        word
        for word in tokens(title)
        if len(word) >= 3
        and word.isalpha()
        and word not in FUNCTION_WORDS
        and word not in COLOURS
        and word not in describing
    )


def option_hits(chosen: Sequence[str], wanted: Sequence[str]) -> int:
    """How many wanted options are alike to a chosen one, colours by their basic name."""
    have = [plain_colour(value) for value in chosen]
    return sum(any(token_set_ratio(plain_colour(want), value) > ALIKE for value in have) for want in wanted)


def _has(product: Product, attribute: str) -> bool:
    alike = any(token_set_ratio(attribute, own) > ALIKE for own in product.attributes)
    return alike or attribute.lower() in product.text


def _levels(category: str) -> list[str]:
    return [level.strip() for level in category.split(">")]
