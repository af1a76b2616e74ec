"""A synthetic catalogue with the fields of WebShop's: the same products for the same seed.

Kinds, attributes and options are words that real shopping instructions use often, so that real goals can be matched to
the catalogue (see `goals.py`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass

SIZES = ("small", "medium", "large", "x-large", "xx-large")
SHOES = ("6", "7", "8", "9", "10")
BEDS = ("twin", "full", "queen", "king")
COLORS = ("black", "white", "blue", "red", "pink", "green", "grey", "brown", "navy", "purple", "gold")
PACKS = ("1 pack", "2 pack", "3 pack", "6 pack")
FLAVORS = ("chocolate", "vanilla", "strawberry", "peanut butter", "apple", "coconut")
SCENTS = ("lavender", "rose", "vanilla", "mint", "coconut")
LENGTHS = ("3 ft", "6 ft", "10 ft", "15 ft")
SYLLABLES = (
    "al",
    "bir",
    "cor",
    "dov",
    "el",
    "fen",
    "gray",
    "har",
    "is",
    "jun",
    "kel",
    "lor",
    "mar",
    "nov",
    "or",
    "pell",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What a shop sells under one search phrase."""

    query: str
    category: str  # levels separated by " > "
    attributes: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    price: tuple[int, int]  # dollars


BODY = ("paraben free", "sulfate free", "cruelty free", "long lasting", "sensitive skin", "natural ingredients")
FOOD = ("gluten free", "non gmo", "sugar free", "low carb", "keto friendly", "individually wrapped", "plant based")
WEAR = ("machine washable", "long sleeve", "short sleeve", "slim fit", "classic fit", "daily wear", "elastic waist")
FOOT = ("rubber sole", "open toe", "memory foam", "non slip", "arch support", "light weight")
HOME = ("living room", "easy to clean", "easy to assemble", "solid wood", "heavy duty", "space saving", "faux leather")
CORD = ("high speed", "gold plated", "easy to use", "heavy duty", "fast charging", "blu ray")
SOUND = ("noise cancelling", "wireless bluetooth", "stereo sound", "water resistant", "easy to carry", "fast charging")
COLOR, SIZE, PACK = ("color", COLORS), ("size", SIZES), ("pack", PACKS)
FLAVOR, SCENT, SHOE = ("flavor", FLAVORS), ("scent", SCENTS), ("size", SHOES)

KINDS = (
    Kind(
        "hair extensions",
        "Beauty > Hair Care > Extensions",
        ("high quality", "easy to use", *BODY[3:]),
        (COLOR,),
        (15, 80),
    ),
    Kind("shampoo", "Beauty > Hair Care > Shampoo", BODY, (SCENT, PACK), (8, 40)),
    Kind(
        "toothpaste",
        "Beauty > Oral Care > Toothpaste",
        ("teeth whitening", "sensitive teeth", "fresh breath", *BODY[2:]),
        (PACK,),
        (4, 20),
    ),
    Kind(
        "toothbrush",
        "Beauty > Oral Care > Brushes",
        ("easy to use", "eco friendly", "sensitive teeth", "bpa free"),
        (COLOR, PACK),
        (4, 30),
    ),
    Kind("foundation", "Beauty > Makeup > Face", ("oil free", "high quality", *BODY), (COLOR,), (8, 50)),
    Kind("perfume", "Beauty > Fragrance > Perfume", ("alcohol free", "travel size", *BODY[2:5]), (SCENT,), (15, 90)),
    Kind(
        "candle",
        "Home > Fragrance > Candles",
        ("lead free", "soy wax", "long lasting", "eco friendly"),
        (SCENT,),
        (9, 40),
    ),
    Kind("t-shirt", "Clothing > Tops > T-Shirts", WEAR, (COLOR, SIZE), (10, 40)),
    Kind("shirt", "Clothing > Tops > Shirts", ("button closure", *WEAR), (COLOR, SIZE), (12, 60)),
    Kind("jeans", "Clothing > Bottoms > Jeans", ("straight leg", "button closure", *WEAR[3:]), (COLOR, SIZE), (20, 90)),
    Kind(
        "leggings", "Clothing > Bottoms > Leggings", ("high waist", "tummy control", *WEAR[3:]), (COLOR, SIZE), (12, 50)
    ),
    Kind("sandals", "Clothing > Shoes > Sandals", FOOT, (COLOR, SHOE), (15, 70)),
    Kind("sneakers", "Clothing > Shoes > Sneakers", FOOT, (COLOR, SHOE), (25, 120)),
    Kind("cookies", "Grocery > Snacks > Cookies", FOOD, (FLAVOR, PACK), (4, 30)),
    Kind("protein bars", "Grocery > Snacks > Bars", ("high protein", *FOOD), (FLAVOR, PACK), (9, 50)),
    Kind(
        "tea", "Grocery > Beverages > Tea", ("certified organic", "caffeine free", *FOOD[:3]), (FLAVOR, PACK), (5, 30)
    ),
    Kind(
        "cupcake toppers",
        "Grocery > Baking > Toppers",
        ("birthday party", "baby shower", "easy to use"),
        (COLOR, PACK),
        (4, 20),
    ),
    Kind("hdmi cable", "Electronics > Cables > HDMI", CORD, (("size", LENGTHS), COLOR), (6, 40)),
    Kind("coaxial cable", "Electronics > Cables > Coaxial", CORD, (("size", LENGTHS), COLOR), (6, 40)),
    Kind("headphones", "Electronics > Audio > Headphones", SOUND, (COLOR,), (15, 200)),
    Kind("speaker", "Electronics > Audio > Speakers", SOUND, (COLOR,), (15, 200)),
    Kind("ottoman", "Home > Furniture > Ottomans", ("storage space", *HOME), (COLOR,), (30, 200)),
    Kind(
        "rug",
        "Home > Floor > Rugs",
        ("dining room", "non slip", "machine washable", *HOME[:2]),
        (COLOR, ("size", SIZES[:3])),
        (20, 250),
    ),
    Kind(
        "bedspread",
        "Home > Bedding > Bedspreads",
        ("super soft", "machine washable", "king size", "queen size"),
        (COLOR, ("size", BEDS)),
        (25, 150),
    ),
    Kind(
        "office chair",
        "Home > Furniture > Chairs",
        ("lumbar support", "height adjustable", *HOME[1:]),
        (COLOR,),
        (60, 300),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One item of the shop, with the fields of WebShop's catalogue.

    Example: ``Product(asin="B00000001C", query="tea", category="Grocery > Beverages > Tea", title="...", ...)``
    """

    asin: str
    query: str
    category: str
    title: str
    bullets: tuple[str, ...]
    description: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]  # group and its values
    price: float
    rating: float
    reviews: tuple[str, ...]

    @property
    def text(self) -> str:
        """Title, bullets and description, lower case: where an attribute may also be found."""
        return " ".join((self.title, *self.bullets, self.description)).lower()


def catalogue(count: int, seed: int) -> tuple[Product, ...]:
    """`count` products; the kinds take turns, so that 50 are two of each."""
    rng = random.Random(seed)
    return tuple(_product(KINDS[number % len(KINDS)], number, rng) for number in range(count))


def _product(kind: Kind, number: int, rng: random.Random) -> Product:
    attributes = tuple(sorted(rng.sample(kind.attributes, max(2, (3 * len(kind.attributes) + 3) // 4))))
    options = tuple((group, _some(values, rng)) for group, values in kind.options)
    brand = "".join(rng.sample(SYLLABLES, 3)).capitalize()
    family = kind.category.split(" > ")[1].lower()
    title = f"{brand} {kind.query} {brand[:2].upper()}{number:02d}, {family}, {', '.join(attributes[:2])}"
    rating = round(rng.uniform(3.0, 5.0), 1)
    return Product(
        asin="B" + "".join(rng.choice("0123456789BCDFGHJKLMNPQRSTVWXZ") for _ in range(7)) + f"{number:02d}",
        query=kind.query,
        category=kind.category,
        title=title,
        bullets=tuple(f"{attribute} for everyday needs" for attribute in attributes[2:]),
        description=f"{brand} makes {kind.query} with care. Shipped in two days.",
        attributes=attributes,
        options=options,
        price=round(rng.uniform(*kind.price), 2),
        rating=rating,
        reviews=(f"{rating} of 5: the {kind.query} is as described", "arrived in time"),
    )


def _some(values: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """Three quarters of the values (two at least), in their order."""
    sampled = set(rng.sample(values, max(2, 3 * len(values) // 4)))
    return tuple(value for value in values if value in sampled)
