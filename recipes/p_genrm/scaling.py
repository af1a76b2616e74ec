"""Test-time scaling over users: several chains of the user, and chains with the histories of like users.

history of u   --m chains--> mean s_self ---------------------------+
                 first analysis --embedder--> e --> prototype       +--> (s_self + s_nb) / 2
histories of w_1 .. w_n, its members nearest to e --a chain each--> mean s_nb
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from raylign.actors.rollout.strategies import SingleTurn, call_of
from raylign.config.build import build
from raylign.config.findings import Findings
from raylign.config.resolve import Run
from raylign.config.schema import Node, node
from raylign.contracts import Embedder, Policy, RolloutTask, artifact
from raylign.errors import DataError, Problem
from raylign.recipes.p_genrm.choices import FORM
from raylign.recipes.p_genrm.combine import combined, mean_scores
from raylign.recipes.p_genrm.form import Chain, Form, asked_again
from raylign.recipes.p_genrm.items import Item, of_prompt
from raylign.recipes.p_genrm.rewards import SCALED
from raylign.recipes.p_genrm.store import Store, of_length_one
from raylign.records import Call, Int32s, Trajectory, derive_seed
from raylign.tasks import as_finished, together

OWN, NEIGHBOUR = "own", "neighbour"  # roles of calls


class Said(NamedTuple):
    """A chain of one call, None where it is not in form."""

    call: Call
    chain: Chain | None


class UserScaling(SingleTurn):
    """`own` (m) chains by the prompt as it is and `neighbours` (n) with a neighbour's history, in one trajectory.

    All see the responses in the item's one order. Scores go into the payload, where the recipe's rewards look first.
    For n alone (m = 0) one chain is still drawn, for its analysis, and its scores are not counted. Without a
    neighbour's chain in form the own mean stands alone, and the other way round; without any the item is not judged. A
    neighbour whose history leaves no room for a chain in the context is not asked (``scaling/too_long``).
    """

    roles = (OWN, NEIGHBOUR)

    @dataclass
    class Config(SingleTurn.Config):
        """How many chains, whose prototypes, and what each channel counts."""

        store: str = artifact("fitted")  # @STAGE of a Fit of `Prototypes`, or its folder
        own: int = 8  # m
        neighbours: int = 4  # n
        weights: list[float] = field(default_factory=lambda: [0.5, 0.5])  # of own and neighbours
        distinct: bool = False  # at most one row of each neighbour
        form: Node = node(Form, FORM)
        embedder: Node = node(Embedder, "raylign.actors.embed.HashedNgrams")

        def __post_init__(self) -> None:
            if min(self.own, self.neighbours) < 0 or self.own + self.neighbours == 0:
                raise ValueError(f"own={self.own}, neighbours={self.neighbours}: 0 or more, and not both 0")
            if len(self.weights) != 2 or min(self.weights) < 0 or not any(self.weights):
                raise ValueError(f"weights={self.weights}: give two, 0 or more and not both 0: of own and neighbours")

    config: Config

    def __init__(self, config: Config, environments: Any = None) -> None:
        super().__init__(config, environments)
        self._form: Form = build(Form, config.form, "strategy.form")
        self._embedder: Embedder = build(Embedder, config.embedder, "strategy.embedder")
        self._store = Store.load(Path(config.store))
        if self._store.embedder != self._embedder.identity:
            why = f"were fitted on vectors of {self._store.embedder}, not {self._embedder.identity}"
            raise DataError(f"the prototypes of {config.store} {why}; fix: give both places the same embedder")
        self._users = frozenset(self._store.users)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """There must be prototypes, and chains that differ."""
        findings = Findings(key)
        fix = f"set {key}.store=@STAGE of a Fit of raylign.recipes.p_genrm.Prototypes"
        findings.expect(bool(config.store), "store", "empty", "there are no neighbours to ask", fix)
        stage = run.parts.get(key.rpartition(".")[0])
        if stage is not None and vars(stage.config).get("greedy"):
            why, fix = "chains of a greedy policy are all the same", f"set {key.rpartition('.')[0]}.greedy=false"
            findings.expect(False, "own", config.own, why, fix)
        return findings

    async def run(self, task: RolloutTask, policy: Policy) -> AsyncIterator[Trajectory]:
        """Each trajectory as it finishes. Raises DataError on a user who is among the prototypes."""
        item = of_prompt(task.prompt)
        if item.user in self._users:
            place, fix = task.prompt.place or task.prompt.id, "evaluate held-out users (view.part=test)"
            raise DataError(f"{place}: user {item.user!r} is among those that the prototypes are made of; fix: {fix}")
        samples = as_finished(self._judged(task, policy, index, item) for index in task.samples)
        async with aclosing(samples):
            async for trajectory in samples:
                yield trajectory

    async def _judged(self, task: RolloutTask, policy: Policy, index: int, item: Item) -> Trajectory:
        ids = np.asarray(task.prompt.token_ids, np.int32)
        asked = (self._said(task, policy, ids, (index, OWN, number), item) for number in range(max(self.config.own, 1)))
        own = await together(*asked)
        persona = next((said.chain.analysis for said in own if said.chain and said.chain.analysis), "")
        vector = await asyncio.to_thread(self._vector, persona) if persona and self.config.neighbours else None
        near: list[int] = []
        if vector is not None:
            near = self._store.neighbours(vector, self.config.neighbours, item.user, self.config.distinct)
        lent = [self._with_history(task, policy, item, row) for row in near]
        fitting = [ids for ids in lent if len(ids) + task.sampling.max_tokens <= policy.max_context]
        near_asked = (self._said(task, policy, read, (index, NEIGHBOUR, n), item) for n, read in enumerate(fitting))
        neighbours = await together(*near_asked)
        self_mean = mean_scores([_scores(said) for said in own[: self.config.own]])
        near_mean = mean_scores([_scores(said) for said in neighbours])
        weights = (self.config.weights[0], self.config.weights[1])
        scores = combined(self_mean, near_mean, weights)
        payload = {
            "scores": scores,
            OWN: self_mean,
            NEIGHBOUR: near_mean,
            "rows": near,
            "prototype": None if vector is None else self._store.nearest(vector),
        }
        return Trajectory(
            prompt_key=task.prompt.key,
            sample_index=index,
            calls=tuple(said.call for said in (*own, *neighbours)),
            seed=derive_seed(task.run_seed, task.prompt.key, index, OWN, 0),
            stop=own[0].call.stop,
            payload={SCALED: payload},
            metrics={
                "scaling/too_long": float(len(lent) - len(fitting)),
                **_figures(own[: self.config.own], neighbours, self_mean, near_mean, item.best),
            },
        )

    async def _said(self, task: RolloutTask, policy: Policy, ids: Int32s, path: Sequence[Any], item: Item) -> Said:
        sampling = replace(task.sampling, temperature=0.0, top_p=1.0, top_k=0) if task.greedy else task.sampling
        said = await policy.generate(ids, sampling, derive_seed(task.run_seed, task.prompt.key, *path))
        call = replace(call_of(said, ids), fresh=True, role=str(path[1]), learn=False)
        return Said(call, self._form.read(said.text, len(item.responses), task.prompt.thinks))

    def _with_history(self, task: RolloutTask, policy: Policy, item: Item, row: int) -> Int32s:
        """The item's question with the history of a row of the store in place of its own."""
        question = self._form.messages(replace(item, history=self._store.histories[row], stated=""))
        messages = asked_again(task.prompt, question)
        return np.asarray(policy.template.prompt_ids(messages, task.prompt.tools), np.int32)

    def _vector(self, persona: str) -> np.ndarray:
        return of_length_one(np.asarray(self._embedder.embed([persona])[0], np.float64))


def _scores(said: Said) -> Sequence[float] | None:
    return said.chain.scores if said.chain else None


def _figures(
    own: Sequence[Said],
    neighbours: Sequence[Said],
    self_mean: Sequence[float] | None,
    near_mean: Sequence[float] | None,
    best: int,
) -> dict[str, float]:
    figures = {"scaling/neighbours": float(len(neighbours))}
    for name, said, mean in ((OWN, own, self_mean), (NEIGHBOUR, neighbours, near_mean)):
        if said:
            figures[f"scaling/{name}_parsed"] = sum(one.chain is not None for one in said) / len(said)
        if mean is not None:
            figures[f"scaling/{name}_best"] = mean[best]
            figures[f"scaling/{name}_other"] = float(np.mean([s for index, s in enumerate(mean) if index != best]))
    return figures
