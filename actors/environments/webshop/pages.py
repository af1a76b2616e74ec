"""The shop as a machine of pages: what may be clicked, where a click leads, and what a page says.

search --search[words]--> results --asin--> item --description | features | reviews--> detail
  ^--------back to search----+---------------+-- option values, buy now                  |
                             ^----- < prev --+<------------------ < prev ----------------+
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from raylign.actors.environments.webshop.products import Product
from raylign.actors.environments.webshop.search import Search

BACK, PREVIOUS, NEXT, BUY = "back to search", "< prev", "next >", "buy now"
DETAILS = ("description", "features", "reviews")


class Place(Enum):
    """Kinds of pages."""

    search = "search"
    results = "results"
    item = "item"
    detail = "detail"
    bought = "bought"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where the customer is, and what was chosen on the way. Never changes: a click gives another page.

    Example: ``Page(place=Place.results, query="tea", results=(15, 40))``
    """

    place: Place = Place.search
    query: str = ""
    results: tuple[int, ...] = ()  # product numbers, best first
    number: int = 0  # of the result page, from 0
    item: int = -1  # product number
    chosen: tuple[tuple[str, str], ...] = ()  # option group and value, in the order of the last choice
    detail: str = ""


class Shop:
    """The shelves: products, their index, and how many results a page shows."""

    def __init__(self, products: Sequence[Product], per_page: int) -> None:
        self.products, self.per_page = tuple(products), per_page
        self._search = Search(products)
        self._numbers = {product.asin.lower(): number for number, product in enumerate(products)}

    def find(self, text: str) -> Page:
        """The first result page of a search."""
        return Page(place=Place.results, query=text, results=self._search.find(text))

    def labels(self, page: Page) -> tuple[str, ...]:
        """What may be clicked, lower case. Every one of them leads to another page or changes a choice or buys.

        The next button is hidden on the last result page, the previous one on the first.
        """
        if page.place is Place.results:
            back = (PREVIOUS,) if page.number else ()
            more = (NEXT,) if (page.number + 1) * self.per_page < len(page.results) else ()
            return (BACK, *back, *more, *(self.products[number].asin.lower() for number in self._shown(page)))
        if page.place is Place.item:
            values = [value for _, group in self.products[page.item].options for value in group]
            return (BACK, PREVIOUS, *values, *DETAILS, BUY)
        return (BACK, PREVIOUS) if page.place is Place.detail else ()

    def click(self, page: Page, label: str) -> Page:
        """Where a click leads. Raises ValueError when the label is not among `labels`."""
        if label not in self.labels(page):
            raise ValueError(f"{label!r} cannot be clicked on a {page.place.value} page")
        if label == BACK:
            return Page()
        if page.place is Place.results:
            if label in (PREVIOUS, NEXT):
                return replace(page, number=page.number + (1 if label == NEXT else -1))
            return replace(page, place=Place.item, item=self._numbers[label], chosen=())
        return replace(page, place=Place.item, detail="") if page.place is Place.detail else self._on_item(page, label)

    def _on_item(self, page: Page, label: str) -> Page:
        if label == PREVIOUS:
            return replace(page, place=Place.results, item=-1, chosen=())
        if label in DETAILS:
            return replace(page, place=Place.detail, detail=label)
        if label == BUY:
            return replace(page, place=Place.bought)
        group = next(name for name, values in self.products[page.item].options if label in values)
        others = tuple(pair for pair in page.chosen if pair[0] != group)
        return replace(page, chosen=(*others, (group, label)))

    def text(self, page: Page) -> str:
        """What a page says, without its buttons."""
        if page.place is Place.search:
            return "Search the shop."
        if page.place is Place.results:
            last = max(1, -(-len(page.results) // self.per_page))
            lines = [self.line(number) for number in self._shown(page)] or ["Nothing was found."]
            return "\n".join((f"Page {page.number + 1} of {last}, {len(page.results)} results", *lines))
        product = self.products[page.item]
        if page.place is Place.detail:
            parts = {"description": (product.description,), "features": product.bullets, "reviews": product.reviews}
            return "\n".join((product.title, page.detail, *parts[page.detail]))
        chosen = dict(page.chosen)
        options = [
            f"{group}: {', '.join(f'<{value}>' if chosen.get(group) == value else value for value in values)}"
            for group, values in product.options
        ]
        return "\n".join((product.title, f"Price: ${product.price:.2f}  Rating: {product.rating}", *options))

    def line(self, number: int) -> str:
        """A product as result pages list it."""
        product = self.products[number]
        return f"{product.asin.lower()}  {product.title}  ${product.price:.2f}"

    def _shown(self, page: Page) -> tuple[int, ...]:
        return page.results[page.number * self.per_page : (page.number + 1) * self.per_page]
