"""What was said of each product lately, and how much of a new text repeats it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from raylign.actors.embed.ngrams import Hashes
from raylign.errors import CheckpointError

ARRAYS, PRODUCTS = "history.npz", "products.json"


class History:
    """The phrases of the last `window` texts of each product, oldest first. n: tokens of a phrase."""

    def __init__(self, window: int, n: int) -> None:
        self.window, self.n = window, n
        self._texts: dict[str, list[Hashes]] = {}  # product -> the different phrases of each of its texts, sorted

    def __contains__(self, product: str) -> bool:
        return product in self._texts

    def count(self, product: str) -> int:
        """Texts that are remembered of a product."""
        return len(self._texts.get(product, ()))

    @property
    def texts(self) -> int:
        """Of all products."""
        return sum(map(len, self._texts.values()))

    def shares(self, product: str, phrases: Sequence[Hashes]) -> list[NDArray[np.float64]]:
        """Of each text's phrases: in which share of the product's texts each of them stands; 0 without any text."""
        texts = self._texts.get(product, [])
        if not texts:
            return [np.zeros(len(text)) for text in phrases]
        known, counts = np.unique(np.concatenate(texts), return_counts=True)
        if not len(known):
            return [np.zeros(len(text)) for text in phrases]
        places = [np.minimum(np.searchsorted(known, text), len(known) - 1) for text in phrases]
        return [
            np.where(known[place] == text, counts[place], 0) / len(texts)
            for place, text in zip(places, phrases, strict=True)
        ]

    def add(self, product: str, phrases: Sequence[Hashes]) -> None:
        """Remember some texts, by the phrases of each; the product's oldest leave."""
        kept = [*self._texts.get(product, ()), *(np.unique(text) for text in phrases)]
        self._texts[product] = kept[-self.window :]

    def state_dict(self) -> dict[str, Any]:
        """What files of another history would differ in."""
        return {"window": self.window, "n": self.n, "texts": self.texts}

    def check(self, state: Mapping[str, Any]) -> None:
        """Raises CheckpointError on the state of other settings: shares of them are not comparable."""
        for name, now in (("window", self.window), ("n", self.n)):
            if state.get(name) != now:
                raise CheckpointError(
                    f"the checkpoint's history has {name}={state.get(name)}, and this run's shaper {name}={now}; "
                    f"fix: set its {name}={state.get(name)} again, or begin another run"
                )

    def save(self, folder: Path) -> None:
        """Write all texts; nothing where there are none."""
        if not self._texts:
            return
        texts = [text for of_product in self._texts.values() for text in of_product]
        np.savez(
            folder / ARRAYS,
            grams=np.concatenate([np.zeros(0, np.uint64), *texts]),
            lengths=np.array([len(text) for text in texts], np.int64),
            counts=np.array([len(of_product) for of_product in self._texts.values()], np.int64),
        )
        (folder / PRODUCTS).write_bytes(orjson.dumps(list(self._texts)))

    def restore(self, folder: Path, texts: int) -> None:
        """Go on from what `save` wrote. texts: that it counted. Raises CheckpointError where they are not there."""
        self._texts = {}
        if folder.exists():
            try:
                with np.load(folder / ARRAYS) as arrays:
                    grams, lengths, counts = (arrays[name] for name in ("grams", "lengths", "counts"))
                products = orjson.loads((folder / PRODUCTS).read_bytes())
                split = np.split(grams, np.cumsum(lengths)[:-1]) if len(lengths) else []
                ends = np.cumsum(counts).tolist()
                self._texts = {
                    product: split[end - count : end]
                    for product, end, count in zip(products, ends, counts.tolist(), strict=True)
                }
            except (OSError, ValueError, KeyError) as cause:
                raise CheckpointError(f"{folder} holds no history of ads: {cause}; {REMEDY}") from cause
        if self.texts != texts:
            raise CheckpointError(f"{folder} holds {self.texts} texts, and {texts} were saved; {REMEDY}")


REMEDY = "fix: restore the folder, or begin another run"
