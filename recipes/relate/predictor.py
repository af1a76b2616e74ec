"""What an ad earns: chances of a click and of a conversion, fitted to logs over all impressions, clicked or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import torch

from raylign.contracts import PlacedRow, ScoringEstimator
from raylign.data.columns import Columns
from raylign.data.questions import question_of
from raylign.errors import DataError
from raylign.recipes.relate.features import presence, shared
from raylign.recipes.relate.structure import AdForm
from raylign.recipes.relate.towers import Bags, Training, TwoTowers, entire_space_loss, trained
from raylign.records import Prompt, derive_seed

SETTINGS, WEIGHTS = "settings.json", "weights.npz"
COUNTS = ("impressions", "clicks", "conversions")
LASTING = ("fields", "separator", "longest", "buckets", "hidden")  # settings that the weights are good for


class Head(Enum):
    """What is said of an ad: its chance of a click, of a conversion once clicked, of both."""

    ctcvr = "ctcvr"
    ctr = "ctr"
    cvr = "cvr"


class Log(NamedTuple):
    """How often an ad was shown, clicked, and led to a conversion."""

    context: str
    ad: str
    counts: tuple[float, float, float]


class TwoHeads(ScoringEstimator):
    """p_ctr(x, y) and p_cvr(x, y) of an ad y in a context x, by their character n-grams, with p_ctcvr = p_ctr p_cvr.

    Minimises, with n impressions, c clicks and v conversions of each row,
    L = - sum [c log p_ctr + (n - c) log(1 - p_ctr) + v log p_ctcvr + (n - v) log(1 - p_ctcvr)] / sum n,
    so that the conversion head learns from all impressions: those that were clicked are no sample of them.
    """

    @dataclass
    class Config:
        """Which columns, what is said, and how large the model is."""

        head: Head = Head.ctcvr  # of `scores`; all are fitted
        record: str = ""  # a column that holds the other ones; empty: the row itself
        context: str = "context"
        fields: dict[str, str] = field(default_factory=lambda: {"title": "title", "description": "desc"})  # -> column
        separator: str = ""  # between the fields of a response; empty: tags, see `Structure`
        age: str = ""  # column with a row's age in days; empty: all are old enough
        window_days: float = 7.0  # in which conversions still come: younger rows are left out
        longest: int = 2  # characters of an n-gram; shorter ones count too
        buckets: int = 4096  # n-grams share their weights by hash
        hidden: int = 32  # of each tower
        epochs: int = 20
        batch_size: int = 256
        lr: float = 3e-3
        l2: float = 1e-4
        held_out: float = 0.1  # share of the rows that only measures

        def __post_init__(self) -> None:
            for name in ("longest", "buckets", "hidden", "epochs", "batch_size", "lr"):
                if getattr(self, name) <= 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it above 0")
            if not self.fields or self.l2 < 0 or not 0 <= self.held_out < 1:
                raise ValueError(f"fields={self.fields}, l2={self.l2:g}, held_out={self.held_out:g}: no model fits")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._form = AdForm(tuple(config.fields), config.separator)
        self._model: TwoTowers | None = None

    def fit(self, rows: Sequence[PlacedRow], seed: int) -> dict[str, float]:
        """Learn; ``ctr``, ``ctcvr`` (observed), ``ctr_said``, ``ctcvr_said`` (the model's means over impressions),
        ``too_young`` (rows), and where rows are held out ``entropy``: their loss over that of the observed rates, below
        1 where the model knows more than these.

        Raises DataError on counts that no log can have, and where nothing was clicked, or nothing converted.
        """
        read = [self._log(row) for row in rows]
        logs = [log for log in read if log is not None]
        counts = np.array([log.counts for log in logs], np.float32).reshape(-1, 3)
        for name, total in zip(COUNTS, counts.sum(axis=0), strict=True):
            if total <= 0:
                fix = "give logs with some" + f", at least {self.config.window_days:g} days old" * bool(self.config.age)
                raise DataError(f"{len(logs)} rows have no {name} at all: nothing can be learned of them; fix: {fix}")
        bags = self._bags([log.context for log in logs], [log.ad for log in logs])
        aside = np.random.default_rng(derive_seed(seed, "held out")).random(len(logs)) < self.config.held_out
        if not (counts[~aside] > 0).any(axis=0).all():
            aside[:] = False  # so few rows teach only together
        learned, config = np.flatnonzero(~aside), self.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            model = TwoTowers(config.buckets, config.hidden)
        how = Training(config.epochs, config.batch_size, config.lr, config.l2)
        self._model = trained(model, bags.rows(learned), counts[learned], how, derive_seed(seed, "order"))
        return self._told(bags, counts, np.flatnonzero(aside)) | {"too_young": float(len(rows) - len(logs))}

    def scores(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """What `head` says of each, between 0 and 1; of a text that is no ad by what it says without its markup."""
        if not responses:
            return []
        ads = [self._form.read(text) for text in responses]
        texts = [
            self._form.bare(text) if ad is None else _joined(ad.values())
            for ad, text in zip(ads, responses, strict=True)
        ]
        ctr, cvr = self._chances(self._bags([question_of(prompt)] * len(texts), texts))
        said: list[float] = {Head.ctr: ctr, Head.cvr: cvr, Head.ctcvr: ctr * cvr}[self.config.head].tolist()
        return said

    def save(self, folder: Path) -> None:
        """Weights, and the settings that they are good for."""
        np.savez(folder / WEIGHTS, **{name: value.numpy() for name, value in self._known().state_dict().items()})
        (folder / SETTINGS).write_bytes(orjson.dumps(self._lasting()))

    def load(self, folder: Path) -> None:
        """Raises DataError on other settings, and on a folder that holds none."""
        try:
            known = orjson.loads((folder / SETTINGS).read_bytes())
            with np.load(folder / WEIGHTS) as arrays:
                weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        except (OSError, ValueError, KeyError) as cause:
            fix = "fix: name the folder that Fit left"
            raise DataError(f"{folder} holds no model of clicks and conversions: {cause}; {fix}") from cause
        now = self._lasting()
        if changed := [f"{name}={known.get(name)}, now {now[name]}" for name in now if known.get(name) != now[name]]:
            raise DataError(f"{folder} was fitted with {'; '.join(changed)}; fix: give both places the same settings")
        self._model = TwoTowers(self.config.buckets, self.config.hidden)
        self._model.load_state_dict(weights)

    def _lasting(self) -> dict[str, Any]:
        settings = asdict(self.config)
        return {name: settings[name] for name in LASTING}

    def _known(self) -> TwoTowers:
        if self._model is None:
            raise ValueError("a model of clicks and conversions that was neither fitted nor loaded")
        return self._model

    def _bags(self, contexts: Sequence[str], ads: Sequence[str]) -> Bags:
        config = self.config
        of_contexts = {text: presence(text, config.longest, config.buckets) for text in dict.fromkeys(contexts)}
        left = [of_contexts[text] for text in contexts]
        right = [presence(text, config.longest, config.buckets) for text in ads]
        return Bags(left, right, [shared(*pair) for pair in zip(left, right, strict=True)])

    def _chances(self, bags: Bags) -> tuple[np.ndarray, np.ndarray]:
        """[N] p_ctr, [N] p_cvr."""
        with torch.no_grad():
            clicked, converted = self._known()(bags)
        return torch.sigmoid(clicked.double()).numpy(), torch.sigmoid(converted.double()).numpy()

    def _told(self, bags: Bags, counts: np.ndarray, aside: np.ndarray) -> dict[str, float]:
        shown, rates = counts[:, 0], counts[:, 1:].sum(axis=0) / counts[:, 0].sum()
        ctr, cvr = self._chances(bags)
        metrics = {"ctr": float(rates[0]), "ctcvr": float(rates[1])}
        metrics |= {"ctr_said": float(np.average(ctr, weights=shown))}
        metrics |= {"ctcvr_said": float(np.average(ctr * cvr, weights=shown))}
        if counts[aside, 0].any() and 0 < rates[1] <= rates[0] < 1:
            numbers = torch.from_numpy(counts[aside])
            constant = torch.tensor([rates[0], rates[1] / rates[0]]).logit(1e-7).expand(len(aside), 2)
            with torch.no_grad():
                clicked, converted = self._known()(bags.rows(aside))
                loss = entire_space_loss(clicked, converted, numbers)
            metrics["entropy"] = float(loss / entire_space_loss(constant[:, 0], constant[:, 1], numbers))
        return metrics

    def _log(self, row: PlacedRow) -> Log | None:
        """A row; None of one that is too young. Raises DataError."""
        columns, record = Columns(row.columns, row.place, "", ""), self.config.record
        inside = f"{record}." if record else ""
        if self.config.age and _number(columns, inside + self.config.age) < self.config.window_days:
            return None
        names = (self.config.context, *self.config.fields.values())
        context, *texts = (_text(columns, inside + name) for name in names)
        shown, clicked, converted = (_number(columns, inside + name) for name in COUNTS)
        if not converted <= clicked <= shown:
            counts = f"impressions={shown:g}, clicks={clicked:g}, conversions={converted:g}"
            raise DataError(
                f"{row.place}: {counts}; fix: every click is one of the impressions, every conversion a click"
            )
        return Log(context, _joined(texts), (shown, clicked, converted))


def _joined(texts: Iterable[str]) -> str:
    """The fields of an ad as one text."""
    return "\n".join(text.strip() for text in texts)


def _text(columns: Columns, name: str) -> str:
    value = columns.need(name)
    if not isinstance(value, str):
        raise DataError(f"{columns.place}: no text in column {name!r}, but {str(value)[:60]!r}")
    return value


def _number(columns: Columns, name: str) -> float:
    value = columns.need(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise DataError(f"{columns.place}: column {name!r} is no number from 0 up, but {str(value)[:60]!r}")
    return float(value)
