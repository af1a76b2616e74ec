"""What an arm did: the patterns that its answers show, how far they follow what was injected, and its gain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import Measure, artifact
from raylign.data.files import read_rows
from raylign.recipes.inject_rbp.behaviours import CONCLUSION, BehaviourParser
from raylign.recipes.inject_rbp.injectant import injectant_of, text_of
from raylign.recipes.inject_rbp.paired import gain_over
from raylign.recipes.inject_rbp.patterns import ORDER, Float64s, Int64s, as_distribution, distribution, frequencies
from raylign.records import Group


class Compliance(Measure):
    """Chains of the answers, and what of an injection is found in them.

    ``l1`` is sum_g |p_injected(g) - p_produced(g)|, between 0 and 2, over all questions of a family, and then their
    mean by questions. ``followed`` is the share of a chain's steps that the answer has at their place, ``pooled`` that
    of questions whose family had no right trace. With `against`, ``gain`` is the paired difference of mean scores to
    another arm, with a bootstrap interval.
    """

    @dataclass
    class Config:
        """How answers are parsed, and with what they are compared."""

        behaviours: Node = node(BehaviourParser, "raylign.recipes.inject_rbp.behaviours.BehaviourParser")
        against: str = artifact()  # the table of this measure that another arm left: @STAGE; empty: none
        resamples: int = 2000  # of the bootstrap
        interval: float = 0.95

        def __post_init__(self) -> None:
            if self.resamples < 1:
                raise ValueError(f"resamples is {self.resamples}, set it to 1 or more")
            if not 0 < self.interval < 1:
                raise ValueError(f"interval={self.interval}: set it between 0 and 1")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._parser = build(BehaviourParser, config.behaviours, "behaviours")

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """See `Measure.metrics`."""
        answers = [(group, self._chains(group)) for group in groups]
        chains = [chain for _, of_group in answers for chain in of_group]
        if not chains:
            return {}
        metrics = {
            "chain_length": float(np.mean([len(chain) for chain in chains])),
            "structured": float(np.mean([len(chain) >= ORDER for chain in chains])),
            "concluded": float(np.mean([CONCLUSION in chain for chain in chains])),
            "tokens": float(np.mean([t.response_length for group in groups for t in group.trajectories if t.calls])),
        }
        metrics |= _followed(answers)
        if self.config.against:
            rows = [row for _, row in read_rows(self.config.against)]
            here, there = (_scores(own) for own in (self.table(groups), rows))
            metrics |= gain_over(here, there, self.config.resamples, self.config.interval)
        return metrics

    def table(self, groups: Sequence[Group]) -> list[Mapping[str, Any]]:
        """A row for each question: its chains and scores, and what was injected."""
        return [
            {
                "prompt": group.prompt.id,
                "domain": group.prompt.domain,
                "scores": list(group.scores),
                "tokens": [trajectory.response_length for trajectory in group.trajectories],
                "chains": self._chains(group),
                "injectant": injectant_of(group.prompt),
            }
            for group in groups
        ]

    def _chains(self, group: Group) -> list[str]:
        return [self._parser.chain(text_of(trajectory)) for trajectory in group.trajectories if trajectory.calls]


def _followed(answers: Sequence[tuple[Group, Sequence[str]]]) -> dict[str, float]:
    """See `Compliance`; nothing of groups without an injectant."""
    injected: dict[str, list[Float64s | Int64s]] = defaultdict(list)
    produced: dict[str, list[str]] = defaultdict(list)
    steps, pooled = list[float](), list[bool]()
    for group, chains in answers:
        injectant = injectant_of(group.prompt)
        if injectant is None:
            continue
        plan, domain = str(injectant["chain"]), group.prompt.domain
        injected[domain].append(frequencies([plan]) if plan else as_distribution(injectant["patterns"]))
        produced[domain] += chains
        pooled.append(bool(injectant["pooled"]))
        steps += [_agreement(plan, chain) for chain in chains if plan]
    if not pooled:
        return {}
    distances = {name: _distance(injected[name], produced[name]) for name in injected}
    known = {name: distance for name, distance in distances.items() if distance is not None}
    metrics = {"pooled": float(np.mean(pooled))}
    if known:
        weights = [len(injected[name]) for name in known]
        metrics["l1"] = float(np.average(list(known.values()), weights=weights))
    if len(known) > 1:
        metrics |= {f"l1/{name}": distance for name, distance in known.items()}
    return metrics | ({"followed": float(np.mean(steps))} if steps else {})


def _distance(injected: Sequence[Float64s | Int64s], produced: Sequence[str]) -> float | None:
    """L1 between the patterns of all that was injected and those of the answers; None where either has none."""
    target, shown = distribution(np.sum(injected, axis=0)), distribution(frequencies(produced))
    return float(np.abs(target - shown).sum()) if target.any() and shown.any() else None


def _agreement(plan: str, chain: str) -> float:
    """Share of the plan's steps that the chain has at their place."""
    return sum(wanted == got for wanted, got in zip(plan, chain, strict=False)) / len(plan)


def _scores(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean score of each question that has one."""
    measured = {row["prompt"]: [score for score in row["scores"] if score is not None] for row in rows}
    return {name: float(np.mean(scores)) for name, scores in measured.items() if scores}
