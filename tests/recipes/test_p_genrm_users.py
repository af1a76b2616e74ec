"""P-GenRM's parts with a memory: the curriculum of hard negatives, prototypes of users, scaling over users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from p_genrm_cases import LETTERS, NGRAMS, ScriptedPolicy, asked, item

from raylign.chat.template import ChatTemplate
from raylign.contracts import PlacedRow, RolloutTask, Sampling
from raylign.data.rows import DataRow, write_rows
from raylign.errors import CheckpointError, DataError
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.p_genrm import (
    HardNegatives,
    Prototypes,
    UserScaling,
)
from raylign.recipes.p_genrm.items import Choice, UserSplit, of_prompt
from raylign.records import Prompt, Trajectory, Value
from raylign.testing import group, trajectory

SAMPLING = Sampling(max_tokens=16)


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


# ---------------------------------------------------------------------------------------------------- curriculum


def mined(path: Path, prompts: list[Prompt], hard: set[str]) -> Path:
    """Four chains of every prompt; a prompt of the set has two right ones, others three. One could not be judged."""
    rows = []
    for prompt in prompts:
        for number in range(5):
            outcome = float(number < (2 if prompt.id in hard else 3)) if number < 4 else None
            made = {"prompt": f"{prompt.id}#0", "rewards": {"outcome": outcome}}
            rows.append(DataRow(messages=prompt.messages, place="", meta={**prompt.meta, "generated": made}))
    write_rows(path, rows)
    return path


def source(prompts: list[Prompt], path: Path | str = "", **settings: Any) -> HardNegatives:
    config = HardNegatives.Config(mined=str(path), **{"steps": 8, "prompts_per_step": 5, **settings})
    return HardNegatives(config, prompts=prompts, seed=1)


def test_what_is_hard_is_mined(tmp_path: Path, template: ChatTemplate) -> None:
    train = [asked(template, item(f"u{n}", UserSplit.train), n) for n in range(12)]
    hard = {prompt.id for prompt in train[:4]}
    made = source(train, mined(tmp_path / "rows.jsonl", train[:10], hard))
    given = [prompt for _ in range(8) for prompt in made.next(5)]
    phases = [np.mean([prompt.id in hard for prompt in given[at : at + 10]]) for at in range(0, 40, 10)]
    np.testing.assert_allclose(phases, [0.25, 0.5, 0.75, 1.0], atol=0.051)
    assert {prompt.id for prompt in given} == {prompt.id for prompt in train[:10]}, "nothing is known of two"
    assert made.metrics()["unknown"] == 2 and made.metrics()["hard"] == 4
    wrong = {"outcome": Value(score=0.0)}
    made.observe([group(trajectory("a", rewards=dict(wrong)), prompt=given[-1])])
    assert made.metrics()["accuracy_hard"] == 0.0


def test_a_curriculum_goes_on_where_it_stood(tmp_path: Path, template: ChatTemplate) -> None:
    train = [asked(template, item(f"u{n}", UserSplit.train), n) for n in range(12)]
    path = mined(tmp_path / "rows.jsonl", train, {prompt.id for prompt in train[:4]})
    whole, first = source(train, path), source(train, path)
    every = [(prompt.id, prompt.visit) for _ in range(8) for prompt in whole.next(5)]
    before = [(prompt.id, prompt.visit) for _ in range(3) for prompt in first.next(5)]
    again = source(train, path)
    again.load_state_dict(orjson.loads(orjson.dumps(first.state_dict())))
    assert before + [(prompt.id, prompt.visit) for _ in range(5) for prompt in again.next(5)] == every
    for other in (source(train, path, shares=[0.5, 1.0]), source(train[:-1], path)):
        with pytest.raises(CheckpointError):
            other.load_state_dict(first.state_dict())


def test_curricula_that_cannot_be_are_refused(tmp_path: Path, template: ChatTemplate) -> None:
    train = [asked(template, item(f"u{n}", UserSplit.train), n) for n in range(4)]
    with pytest.raises(DataError, match=r"row 0: user 'h' of the test split would take part in the curriculum; fix"):
        source([asked(template, item("h"))])
    with pytest.raises(DataError, match="has ratings, so that none is known to be hard; fix: mine"):
        source(train)
    with pytest.raises(DataError, match=r"none of 4 items is hard .*; fix"):
        source(train, mined(tmp_path / "rows.jsonl", train, set()))
    with pytest.raises(DataError, match=r"has no reward 'right', but outcome; fix"):
        source(train, mined(tmp_path / "rows.jsonl", train, set()), outcome="right")


# ---------------------------------------------------------------------------------------- prototypes and scaling


def library(users: int = 12, part: UserSplit = UserSplit.train) -> list[PlacedRow]:
    """Chains about users of two kinds."""
    rows = []
    for number in range(users):
        kind = ("ac", "bd")[number % 2]
        made = item(f"u{number}", part, kind)
        columns = {"target": f"{kind};{kind[0]}6{kind[1]}4;06", "meta": made.meta()}
        rows.append(PlacedRow(f"rows.jsonl:{number + 1}", columns))
    return rows


def prototypes(**settings: Any) -> Prototypes:
    return Prototypes(Prototypes.Config(**{"clusters": 2, "form": LETTERS, "embedder": NGRAMS, **settings}))


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    made, folder = prototypes(), tmp_path / "fitted"
    metrics = made.fit(library(), 1)
    assert metrics["users"] == 12 and metrics["smallest"] == metrics["largest"] == 6 and metrics["unread"] == 0
    assert {"drift", "drift_max", "moved", "agreement", "agreement_before"} <= set(metrics)
    folder.mkdir()
    made.save(folder)
    return folder


def test_a_fit_is_repeated_and_read_back(fitted: Path) -> None:
    first, second = prototypes(), prototypes()
    first.fit(library(), 1)
    second.load(fitted)
    assert first.store is not None and second.store is not None
    assert (first.store.prototypes == second.store.prototypes).all() and first.store.histories == second.store.histories
    with pytest.raises(DataError, match=r"was fitted on vectors of .*; fix: give both places the same embedder"):
        prototypes(embedder={**NGRAMS, "dimensions": 32}).load(fitted)
    with pytest.raises(DataError, match="holds no prototypes"):
        prototypes().load(fitted.parent)


def test_libraries_that_make_no_prototypes_are_refused() -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:1: user 'u0' of the test split would take part in the prototypes"):
        prototypes().fit(library(part=UserSplit.test), 1)
    with pytest.raises(DataError, match=r"with 2 different analyses .* no 3 clusters; fix: set estimator.clusters=1"):
        prototypes(clusters=3).fit(library(), 1)
    with pytest.raises(DataError, match=r"a.jsonl:1: has no 'item' in its meta.*; fix"):
        prototypes().fit([PlacedRow("a.jsonl:1", {"target": "x"})], 1)


def scaling(fitted: Path, **settings: Any) -> UserScaling:
    config = UserScaling.Config(**{"store": str(fitted), "own": 3, "neighbours": 2, "form": LETTERS, **settings})
    return UserScaling(replace(config, embedder=NGRAMS))


async def judged(strategy: UserScaling, policy: ScriptedPolicy, prompt: Prompt) -> Trajectory:
    task = RolloutTask(prompt=prompt, n=1, sampling=SAMPLING, run_seed=1)
    (made,) = [one async for one in strategy.run(task, policy)]
    assert isinstance(made, Trajectory)
    return made


async def test_all_chains_of_an_item_see_the_same_responses(fitted: Path, template: ChatTemplate) -> None:
    said = ["ac;a6c4;06", "no chain", "ac;a6c4;64", "ac;a6c4;46", "ac;a6c4;28"]
    policy = ScriptedPolicy(template, lambda question, number: said[number])
    made = await judged(scaling(fitted), policy, asked(template, item("held", history=(Choice("y", "cb", "ef"),))))
    own, lent = policy.questions[:3], policy.questions[3:]
    assert len(lent) == 2 and len(set(own)) == 1 and len(set(policy.seeds)) == 5
    assert {question.partition("|")[2] for question in policy.questions} == {"xde/af"}
    assert {question.partition("|")[0] for question in own} == {"ycb>ef"}
    assert {question.partition("|")[0] for question in lent} == {"xaf>de;xce>df"}, "neighbours like a and c, too"
    assert [call.role for call in made.calls] == ["own"] * 3 + ["neighbour"] * 2
    assert all(call.fresh and not call.learn for call in made.calls)
    payload = made.payload["scaled"]
    assert payload["own"] == [3.0, 5.0] and payload["neighbour"] == [3.0, 7.0] and payload["scores"] == [3.0, 6.0]
    assert made.metrics["scaling/own_parsed"] == 2 / 3 and made.metrics["scaling/neighbours"] == 2
    assert made.metrics["scaling/own_best"] == 5.0 and made.metrics["scaling/neighbour_other"] == 3.0


async def test_every_fallback_of_the_two_channels(fitted: Path, template: ChatTemplate) -> None:
    async def scores(said: list[str], **settings: Any) -> Any:
        policy = ScriptedPolicy(template, lambda question, number: said[number])
        made = await judged(
            scaling(fitted, **{"own": 1, "neighbours": 1, **settings}), policy, asked(template, item("h"))
        )
        assert len(policy.questions) == len(said)
        return made.payload["scaled"]["scores"]

    assert await scores(["ac;a6c4;06", "no chain"]) == [0, 6], "no neighbour in form: the own mean"
    assert await scores(["no chain"]) is None, "no persona, no neighbour, nothing"
    assert await scores(["ac;a6c4;06", "ac;a6c4;91"], own=0) == [9, 1], "n alone: the own chain gives the persona only"
    assert await scores(["no chain"], own=0) is None
    assert await scores(["ac;a6c4;06"], neighbours=0) == [0, 6]


async def test_a_user_among_the_prototypes_is_refused(fitted: Path, template: ChatTemplate) -> None:
    policy = ScriptedPolicy(template, lambda question, number: "ac;a6c4;06")
    with pytest.raises(DataError, match=r"row 0: user 'u3' is among those that the prototypes are made of; fix"):
        await judged(scaling(fitted), policy, asked(template, item("u3")))
    with pytest.raises(DataError, match="give both places the same embedder"):
        UserScaling(UserScaling.Config(store=str(fitted), form=LETTERS))


async def test_a_neighbour_whose_history_leaves_no_room_is_not_asked(fitted: Path, template: ChatTemplate) -> None:
    said = ["ac;a6c4;06", "ac;a6c4;64", "ac;a6c4;46"]
    policy = ScriptedPolicy(template, lambda question, number: said[number])
    prompt = asked(template, item("held", history=(Choice("y", "cb", "ef"),)))
    longest = max(
        len(scaling(fitted)._with_history(_task(prompt), policy, of_prompt(prompt), row)) for row in range(12)
    )
    policy.max_context = longest + SAMPLING.max_tokens - 1
    made = await judged(scaling(fitted), policy, prompt)
    assert made.metrics["scaling/too_long"] == 2 and made.metrics["scaling/neighbours"] == 0
    assert made.payload["scaled"]["scores"] == made.payload["scaled"]["own"] and len(policy.questions) == 3


def _task(prompt: Prompt) -> RolloutTask:
    return RolloutTask(prompt=prompt, n=1, sampling=SAMPLING, run_seed=1)
