"""Which chains become rows: a teacher's that agree with the user, and the trained model's that have an analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from raylign.chat.thoughts import answer_text
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.recipes.p_genrm.choices import FORM
from raylign.recipes.p_genrm.combine import top_of
from raylign.recipes.p_genrm.form import Form
from raylign.recipes.p_genrm.items import of_prompt
from raylign.recipes.stages.keep import Keep, Kept
from raylign.records import Group

TOTAL, SLACK = 100.0, 1.0 + 1e-9  # percent


class InForm(Keep):
    """Chains that can be read and have an analysis."""

    @dataclass
    class Config:
        """How chains are read."""

        form: Node = node(Form, FORM)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._form: Form = build(Form, config.form, "keep.form")

    def keep(self, group: Group, usable: Sequence[int]) -> list[Kept]:
        """See `Keep.keep`."""
        item = of_prompt(group.prompt)
        said = {index: answer_text(group.prompt, group.trajectories[index]) for index in usable}
        chains = {index: self._form.parse(text, len(item.responses)) for index, text in said.items()}
        return [
            Kept(index)
            for index, chain in chains.items()
            if chain and chain.analysis and self.good(chain.scores, chain.weights.values(), item.best)
        ]

    def good(self, scores: Sequence[float], weights: Any, best: int) -> bool:
        """Whether a chain with these totals and weights is kept."""
        return True


class Agrees(InForm):
    """Of these, the chains whose weights add up to 100, give or take 1, and whose totals are highest for the response
    that the user likes best.
    """

    @dataclass
    class Config(InForm.Config):
        """As of all chains."""

    def good(self, scores: Sequence[float], weights: Any, best: int) -> bool:
        """See the class."""
        return abs(sum(weights) - TOTAL) <= SLACK and top_of(scores) == [best]
