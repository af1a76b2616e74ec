"""The three rewards of an evaluation chain, whose weighted sum is R = format + alpha PR + beta OR."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from raylign.actors.judge.asking import AsksJudge
from raylign.actors.judge.blocking import BlockingJudge
from raylign.chat.thoughts import answer_text
from raylign.config.build import build
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, SampledSettings, node
from raylign.contracts import RewardFunction
from raylign.errors import Problem
from raylign.recipes.p_genrm import wording
from raylign.recipes.p_genrm.choices import FORM
from raylign.recipes.p_genrm.combine import SAME, top_of
from raylign.recipes.p_genrm.coverage import share_of
from raylign.recipes.p_genrm.form import Chain, Form
from raylign.recipes.p_genrm.items import Item, UserSplit, of_prompt
from raylign.recipes.p_genrm.views import Asked
from raylign.records import Message, Prompt, Trajectory, Value

SCALED = "scaled"  # key of a trajectory's payload: what several chains came to together


class Tie(Enum):
    """What equal totals come to: a wrong answer, or the choice of response 1 (the released scaling script)."""

    wrong = "wrong"
    first = "first"


class OfChain(RewardFunction):
    """A reward of what a chain says, or of what several chains say together (`UserScaling`)."""

    @dataclass
    class Config:
        """How chains are read."""

        form: Node = node(Form, FORM)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.form: Form = build(Form, config.form, "form")

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """One value for each."""
        item = of_prompt(prompt)
        said = [(trajectory, answer_text(prompt, trajectory)) for trajectory in trajectories]
        return [self.value(item, chain, totals_of(self.form, item, trajectory, chain)) for trajectory, chain in said]

    @abstractmethod
    def value(self, item: Item, chain: str, totals: Sequence[float] | None) -> Value:
        """What it is worth. chain: its text without thoughts. totals: of each response; None: not in form."""

    def gold(self, prompt: Prompt) -> str | None:
        """A chain whose totals are the gold ratings."""
        item = of_prompt(prompt)
        return self.form.write(item.gold, item.criteria, "")

    def wrong(self, prompt: Prompt) -> str | None:
        """No chain."""
        return "-"


class Format(OfChain):
    """0 for a chain in form, else the penalty."""

    maximum = 0.0

    @dataclass
    class Config(OfChain.Config):
        """What a chain costs that is not in form."""

        penalty: float = 0.1

        def __post_init__(self) -> None:
            if self.penalty <= 0:
                raise ValueError(f"penalty is {self.penalty}, set it above 0")

    config: Config

    def value(self, item: Item, chain: str, totals: Sequence[float] | None) -> Value:
        """See the class."""
        return Value(score=-self.config.penalty if totals is None else 0.0)


class Outcome(OfChain):
    """OR = 1 where the response that the user likes best has the highest total of all, else 0.

    Details: ``parsed``, ``tie`` (the highest total is not one response's alone), ``scores``, and of more than two
    responses ``spearman``, the rank correlation with what they are worth (left out where all totals are equal).
    """

    @dataclass
    class Config(OfChain.Config):
        """What a tie is."""

        tie: Tie = Tie.wrong

    config: Config

    @classmethod
    def problems(cls, key: str, config: Any, run: Run) -> list[Problem]:
        """Where a model learns from items, it is shown none of a held-out user."""
        findings = Findings()
        for stage in run.stages:
            view = run.parts.get(f"{stage.key}.view")
            asks = isinstance(stage.config, SampledSettings) and "learner" in stage.roles
            if asks and not (view and issubclass(view.cls, Asked) and view.config.part is UserSplit.train):
                shown = view.config.part.value if view and issubclass(view.cls, Asked) else "all"
                why = "would learn from users of the test split"
                findings.expect(False, f"{stage.key}.view.part", shown, why, f"set {stage.key}.view.part=train")
        return findings

    def value(self, item: Item, chain: str, totals: Sequence[float] | None) -> Value:
        """See the class."""
        if totals is None:
            return Value(score=0.0, details={"parsed": False, "tie": False})
        top = top_of(totals)
        tie = len(top) > 1
        right = top[0] == item.best and (not tie or self.config.tie is Tie.first)
        details = {"parsed": True, "tie": tie, "scores": list(totals)}
        if len(totals) > 2 and len(top) < len(totals):
            details["spearman"] = spearman(totals, item.gold)
        return Value(score=float(right), details=details)


class Process(OfChain, AsksJudge):
    """PR in [0, 1]: to which degree the chain covers the user's true criteria, as a judge says.

    The criteria are the item's own, else what the user has stated, else what the judge makes of the history. A chain
    that is not in form has 0 unasked. A judge that cannot be reached, or gives no number, makes it Missing.
    """

    @dataclass
    class Config(OfChain.Config, AsksJudge.Config):
        """How chains are read, and who judges."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._judge = BlockingJudge(config.judge)

    def value(self, item: Item, chain: str, totals: Sequence[float] | None) -> Value:
        """See the class. Raises JudgeUnavailable or JudgeUnreadable."""
        if totals is None:
            return Value(score=0.0, details={"asked": False})
        criteria: Mapping[str, float] | str = item.criteria or item.stated or self._criteria(item)
        question = _asked(wording.COVERAGE, {"criteria": criteria, "reasoning": chain})
        answer = self._judge(lambda judge: judge.ask(question, share_of))
        return Value(score=answer.value, details={"asked": True})

    def gold(self, prompt: Prompt) -> str | None:
        """Unknown: what covers the criteria is for the judge to say."""
        return None

    def _criteria(self, item: Item) -> str:
        past = [[choice.query, choice.chosen, choice.rejected] for choice in item.history]
        question = _asked(wording.CRITERIA, {"past choices (query, chosen, rejected)": past})
        return self._judge(lambda judge: judge.ask(question, _said)).value


def totals_of(form: Form, item: Item, trajectory: Trajectory, text: str) -> Sequence[float] | None:
    """The total of each response: of several chains together, or of the only one, whose text without thoughts is given;
    None without any in form.
    """
    if SCALED in trajectory.payload:
        together: Sequence[float] | None = trajectory.payload[SCALED]["scores"]
        return together
    chain: Chain | None = form.parse(text, len(item.responses))
    return chain.scores if chain else None


def spearman(given: Sequence[float], gold: Sequence[float]) -> float:
    """Correlation of ranks, equal values sharing their mean rank. Not of constants."""
    return float(np.corrcoef(_ranks(given), _ranks(gold))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    apart = array[:, None] - array[None, :]
    limit = SAME * np.abs(array).max()
    below, same = (apart > limit).sum(axis=1), (np.abs(apart) <= limit).sum(axis=1)
    return np.asarray(below + (same - 1) / 2, np.float64)


def _said(reply: str) -> str:
    if not reply.strip():
        raise ValueError("no word")
    return reply.strip()


def _asked(instruction: str, material: Mapping[str, Any]) -> tuple[Message, Message]:
    content = json.dumps(material, ensure_ascii=False)
    return {"role": "system", "content": instruction}, {"role": "user", "content": content}
