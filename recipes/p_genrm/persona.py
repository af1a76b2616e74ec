"""The trained model as a reward of any other recipe: what this very user would say of the sampled answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from raylign.actors.judge.asking import AsksJudge
from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.judge.client import Judge
from raylign.chat.thoughts import answer_text
from raylign.config.build import build
from raylign.config.schema import Node, node
from raylign.contracts import RewardFunction, Scope
from raylign.data.questions import conversation_of
from raylign.recipes.p_genrm.choices import FORM
from raylign.recipes.p_genrm.form import Chain, Form
from raylign.recipes.p_genrm.items import ITEM, Choice, Item, UserSplit, choices, of_prompt
from raylign.records import Prompt, Trajectory, Value, derive_seed
from raylign.tasks import together


class PersonaReward(RewardFunction, AsksJudge):
    """The mean total that an answer is given by the chains that compare it with others of its group.

    The samples of a prompt stand in a ring, in an order of the prompt's own, and each of `chains` chains is asked about
    `together` neighbours in it, so that every sample is judged `together` x `chains` times, and `chains` times where
    no more than `together` differ; equal texts are one sample.
    An unreadable chain is drawn anew (`judge.tries`); a group of which one stays unreadable is Missing.

    For a policy the rewards are used as they are; ``keep: BestAndWorst`` of a `Generate` makes labelled pairs of them,
    for `Preference`.
    """

    scope = Scope.GROUP
    judges_text = False

    @dataclass
    class Config(AsksJudge.Config):
        """How often it is asked, and about whose history."""

        form: Node = node(Form, FORM)
        history: str = "history"  # column of the prompt with the user's past choices: query, chosen, rejected
        shown: int = 3  # h: past choices that a chain sees, of more a draw of the prompt's own; 0: all
        together: int = 2  # responses in one chain
        chains: int = 1  # of the same responses

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.together < 2 or self.chains < 1 or self.shown < 0:
                least = "must be 2 or more, 1 or more, 0 or more"
                raise ValueError(f"together={self.together}, chains={self.chains}, shown={self.shown} {least}")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._form: Form = build(Form, config.form, "form")
        self._judge = BlockingJudge(config.judge)

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value | None]:
        """One value for each; None of a group whose answers are all the same, which nothing can be compared with.

        Raises DataError without a history, JudgeUnavailable and JudgeUnreadable.
        """
        query, history = self._known(prompt)
        said = [answer_text(prompt, trajectory) for trajectory in trajectories]
        texts = list(dict.fromkeys(said))
        if len(texts) < 2:
            return [None] * len(trajectories)
        rng = np.random.default_rng(derive_seed(0, prompt.key, "ring"))
        ring = [texts[index] for index in rng.permutation(len(texts))]
        size = min(self.config.together, len(ring))
        starts = range(1) if size == len(ring) else range(len(ring))
        shown = [[ring[(start + step) % len(ring)] for step in range(size)] for start in starts]
        chains = self._judge(partial(self._asked, query=query, history=history, shown=shown))
        totals: dict[str, list[float]] = {text: [] for text in texts}
        for responses, chain in chains:
            for text, total in zip(responses, chain.scores, strict=True):
                totals[text].append(total)
        means = {text: math.fsum(given) / len(given) for text, given in totals.items()}
        judged = {"judged": len(chains)}
        return [Value(score=means[text], details=judged) for text in said]

    async def _asked(
        self, judge: Judge, *, query: str, history: tuple[Choice, ...], shown: Sequence[Sequence[str]]
    ) -> list[tuple[Sequence[str], Chain]]:
        asked = [(responses, number) for responses in shown for number in range(self.config.chains)]
        answers = await together(
            *(
                judge.ask(
                    self._form.messages(_item(query, responses, history)), self._reader(len(responses)), salt=f"{n}"
                )
                for responses, n in asked
            )
        )
        return [(responses, answer.value) for (responses, _), answer in zip(asked, answers, strict=True)]

    def _reader(self, responses: int) -> Any:
        def read(text: str) -> Chain:
            chain = self._form.read(text, responses)
            if chain is None:
                raise ValueError("the chain is not in form")
            return chain

        return read

    def _known(self, prompt: Prompt) -> tuple[str, tuple[Choice, ...]]:
        if ITEM in prompt.meta:
            item = of_prompt(prompt)
            return item.query, item.history
        place = f"{prompt.place or prompt.id}: {self.config.history}"
        past, most = choices(prompt.meta.get(self.config.history), place), self.config.shown
        if most and len(past) > most:
            rng = np.random.default_rng(derive_seed(0, prompt.key, "history"))
            past = tuple(past[index] for index in sorted(rng.permutation(len(past))[:most].tolist()))
        return conversation_of(prompt), past


def _item(query: str, responses: Sequence[str], history: tuple[Choice, ...]) -> Item:
    """The question about some answers, of which nothing is known yet."""
    gold = (0.0,) * len(responses)
    return Item(user="", part=UserSplit.train, query=query, responses=tuple(responses), gold=gold, history=history)
