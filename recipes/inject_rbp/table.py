"""The pattern table: what a `Fit` stage makes of a model's own traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import Estimator, PlacedRow, artifact
from raylign.errors import DataError
from raylign.recipes.inject_rbp.behaviours import BehaviourParser
from raylign.recipes.inject_rbp.families import Estimation, Family, Outcome, family_of
from raylign.recipes.inject_rbp.history import RowColumns, Trace, read_traces, trace_of, write_traces
from raylign.recipes.inject_rbp.patterns import ORDER
from raylign.recipes.inject_rbp.policies import Level, Softmax
from raylign.recipes.inject_rbp.statistics import of_families, of_outcomes, of_traces
from raylign.recipes.inject_rbp.values import ValueEstimate

SETTINGS, HISTORY, TABLES = "settings.json", "history.jsonl", "tables.json"


class PatternTable(Estimator):
    """Patterns of right and wrong traces, and values of behaviours, by family of questions.

    Nothing of a language model changes. A family without a right trace is answered for by all families together. The
    folder holds ``history.jsonl``, the chains that everything follows from, and ``tables.json``, frequencies, N, Q and
    policies to read.
    """

    @dataclass
    class Config:
        """What is read of a row, and what is made of it."""

        text: str = "target"  # column of the answer: a text, or an assistant's message; a dot enters an object
        chain: str = ""  # column of chains that are there already; empty: the text is parsed
        score: str = "meta.generated.score"
        right: float = 0.5  # score from which an answer is right
        by: str = "domain"  # column of the family; empty: all are one
        question: str = "messages"  # column of what was asked: messages, or a text
        behaviours: Node = node(BehaviourParser, "raylign.recipes.inject_rbp.behaviours.BehaviourParser")
        after: str = artifact("fitted")  # a table whose traces come before these: a folder, or @STAGE
        values: ValueEstimate = ValueEstimate.mc
        gamma: float = 0.98
        outcome: Outcome = Outcome.zero_one
        longest: int = 0  # L_max; 0: the 95th percentile of the chains' lengths
        least: int = 3  # N_min of fqi
        sweeps: int = 200  # of fqi
        tau: float = 0.05  # of the softmax policy
        kappa: float = 5.0
        state_visits: int = 3  # N_state, below which the policy backs off
        permutations: int = 999  # of the tests whether distributions differ

        def __post_init__(self) -> None:
            if not 0 < self.gamma <= 1:
                raise ValueError(f"gamma={self.gamma}: set it above 0 and to at most 1")
            for name in ("tau", "sweeps", "least", "state_visits", "permutations"):
                if getattr(self, name) <= 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it above 0")
            for name in ("kappa", "longest"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it to 0 or more")

    config: Config

    traces: list[Trace]
    longest: int  # L_max
    families: dict[str, Family]  # by name, in order; with `by` empty a single one without a name
    whole: Family  # all traces together

    @classmethod
    def of(cls, folder: Path) -> PatternTable:
        """The table that a folder holds, with the settings that it was made with. Raises DataError."""
        node = {"_target_": f"{cls.__module__}.{cls.__name__}", **_settings_in(folder)}
        table = build(cls, node, "store")
        table.load(folder)
        return table

    def fit(self, rows: Sequence[PlacedRow], seed: int) -> dict[str, float]:
        """Read the traces; how many, how long, how often right, and how far families and outcomes are apart.

        Raises DataError on a row that cannot be read, and where no trace is right or none has a pattern.
        """
        columns = RowColumns(
            text=self.config.text,
            chain=self.config.chain,
            score=self.config.score,
            family=self.config.by,
            question=self.config.question,
        )
        read = [trace_of(row, columns, self.parser) for row in rows]
        traces = [*self._earlier(), *(trace for trace in read if trace is not None)]
        self._refuse_useless(traces, len(rows))
        self._learn(traces)
        metrics = {
            "traces": float(len(self.traces)),
            "unscored": float(sum(trace is None for trace in read)),
            "families": float(len(self.families)),
            "families_without_right": float(sum(not any(family.right) for family in self.families.values())),
            "longest": float(self.longest),
        }
        for family in (self.whole, *self.answering):
            end = f"/{family.name}" if family.name else ""
            metrics[f"entropy{end}"] = family.entropy(self.softmax)
            metrics[f"backed_off{end}"] = self._backed_off(family)
        metrics |= of_traces(self.traces, self.config.right)
        for name in self.families if len(self.families) > 1 else ():
            own = of_traces([trace for trace in self.traces if trace.family == name], self.config.right)
            metrics |= {f"{what}/{name}": value for what, value in own.items()}
        metrics |= of_outcomes(self.traces, self.config.right, self.config.permutations, seed)
        return metrics | of_families(self.traces, self.config.permutations, seed)

    def save(self, folder: Path) -> None:
        """The traces, the settings, and the tables to read."""
        write_traces(folder / HISTORY, self.traces)
        (folder / SETTINGS).write_bytes(orjson.dumps(self._settings()))
        tables = {family.name or "all": family.tables(self.softmax) for family in (self.whole, *self.answering)}
        (folder / TABLES).write_bytes(orjson.dumps(tables, option=orjson.OPT_INDENT_2))

    def load(self, folder: Path) -> None:
        """Raises DataError on other settings, and on a folder that holds no table."""
        known, now = _settings_in(folder), self._settings()
        changed = [f"{name}={known.get(name)}, now {now[name]}" for name in now if known.get(name) != now[name]]
        if changed:
            raise DataError(f"{folder} was fitted with {'; '.join(changed)}; fix: give both places the same settings")
        self._learn(read_traces(folder / HISTORY))

    @cached_property
    def parser(self) -> BehaviourParser:
        """Of texts."""
        return build(BehaviourParser, self.config.behaviours, "behaviours")

    @property
    def softmax(self) -> Softmax:
        """The reliability-aware policy's settings."""
        return Softmax(tau=self.config.tau, kappa=self.config.kappa, least=self.config.state_visits)

    def of_question(self, domain: str) -> Family:
        """The family that answers for a question: its own, or all together where that has no right trace."""
        own = self.families.get(domain)
        return self.whole if own is None or not any(own.right) else own

    @property
    def answering(self) -> list[Family]:
        """The families that answer for themselves, where there are several."""
        several = self.families.values() if len(self.families) > 1 else ()
        return [family for family in several if any(family.right)]

    def _earlier(self) -> list[Trace]:
        """Those of the table that this one goes on from. Raises DataError where its texts were parsed otherwise."""
        if not self.config.after:
            return []
        earlier = PatternTable.of(Path(self.config.after))
        if earlier.config.behaviours != self.config.behaviours:
            raise DataError(
                f"after={self.config.after}: its traces were parsed by {earlier.config.behaviours}, these by "
                f"{self.config.behaviours}; fix: give both the same `behaviours`"
            )
        return earlier.traces

    def _learn(self, traces: Sequence[Trace]) -> None:
        """Be the table of these traces."""
        lengths = [len(trace.chain) for trace in traces]
        self.traces = list(traces)
        self.longest = self.config.longest or int(np.percentile(lengths, 95, method="higher"))
        by_name = {name: [t for t in traces if t.family == name] for name in sorted({t.family for t in traces})}
        self.families = {name: self._family(name, own) for name, own in by_name.items()}
        self.whole = self._family("", traces)

    def _family(self, name: str, traces: Sequence[Trace]) -> Family:
        how = Estimation(
            values=self.config.values,
            gamma=self.config.gamma,
            outcome=self.config.outcome,
            least=self.config.least,
            sweeps=self.config.sweeps,
            right=self.config.right,
            longest=self.longest,
        )
        return family_of(name, traces, how)

    def _backed_off(self, family: Family) -> float:
        """Share of the states that were seen in which the pair's own values do not decide."""
        levels, seen = self.softmax.levels(family.values), family.values.n.sum(1) > 0
        return float((levels[seen] != Level.pair).mean())

    def _refuse_useless(self, traces: Sequence[Trace], rows: int) -> None:
        """Raises DataError on traces that nothing can be learned from."""
        count = len(traces)
        if not count:
            raise DataError(f"none of {rows} rows has a score at {self.config.score}; fix: set `score` to its column")
        if not any(len(trace.chain) >= ORDER for trace in traces):
            raise DataError(
                f"none of {count} traces has {ORDER} paragraphs; fix: set behaviours.separator=newline where answers "
                "have no blank lines"
            )
        if not any(trace.chain and trace.score >= self.config.right for trace in traces):
            raise DataError(
                f"none of {count} traces is right ({self.config.score} >= {self.config.right:g}), so that there is "
                "nothing to imitate; fix: easier questions, more samples of each, or a lower `right`"
            )

    def _settings(self) -> dict[str, Any]:
        """Those that the table depends on, as JSON."""
        values = {name: value.name if isinstance(value, Enum) else value for name, value in asdict(self.config).items()}
        return {name: value for name, value in values.items() if name != "after"}


def _settings_in(folder: Path) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = orjson.loads((folder / SETTINGS).read_bytes())
    except (OSError, ValueError) as cause:
        raise DataError(
            f"{folder} holds no pattern table: {cause}; fix: name @STAGE of a Fit of PatternTable, or its folder"
        ) from cause
    return settings
