"""Ranked search over the catalogue: BM25 (Robertson and Zaragoza 2009) with k1 = 1.2, b = 0.75."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from raylign.actors.environments.webshop.fuzzy import tokens
from raylign.actors.environments.webshop.products import Product

K1, B = 1.2, 0.75


class Search:
    """An index of products by the words of title, search phrase, category, attributes, options and description."""

    def __init__(self, products: Sequence[Product]) -> None:
        self._counts = [Counter(tokens(_document(product))) for product in products]
        self._lengths = [counts.total() for counts in self._counts]
        self._mean = sum(self._lengths) / max(len(products), 1)
        documents_with = Counter(word for counts in self._counts for word in counts)
        n = len(products)
        self._rarity = {
            word: math.log(1 + (n - documents + 0.5) / (documents + 0.5)) for word, documents in documents_with.items()
        }

    def find(self, text: str) -> tuple[int, ...]:
        """Numbers of the products that share a word with `text`, best first, ties by number."""
        words = set(tokens(text)) & self._rarity.keys()
        scores = [self._score(number, words) for number in range(len(self._counts))]
        return tuple(sorted((n for n, score in enumerate(scores) if score > 0), key=lambda n: (-scores[n], n)))

    def _score(self, number: int, words: set[str]) -> float:
        counts, norm = self._counts[number], K1 * (1 - B + B * self._lengths[number] / self._mean)
        return sum(self._rarity[word] * counts[word] * (K1 + 1) / (counts[word] + norm) for word in sorted(words))


def _document(product: Product) -> str:
    values = [value for _, group in product.options for value in group]
    parts = (product.title, product.query, product.category, *product.attributes, *values, product.description)
    return " ".join(parts)
