"""P-GenRM's parts within a run: settings that belong together, data that is refused, views, the library, scaling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from p_genrm_cases import FORM, LETTERS, asked, choice_row, item, written

from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose
from raylign.contracts import Sampling
from raylign.data.prompts import load_prompts
from raylign.errors import ConfigError, DataError
from raylign.loop.scoring import logged, scored
from raylign.models.tokenizer import load_tokenizer
from raylign.plan import make_plan
from raylign.recipes.p_genrm import (
    Asked,
    ChainFigures,
    Judgements,
    PersonalChoices,
)
from raylign.recipes.p_genrm.items import Item, UserSplit, item_of, of_prompt
from raylign.recipes.p_genrm.toy import Letters, choice_of, judge, liked, teacher, total
from raylign.recipes.p_genrm.views import Shown
from raylign.records import Missing, Prompt, Trajectory, Value
from raylign.testing import group, trajectory

TINY = ["recipe=p_genrm", "scale=tiny"]
SAMPLING = Sampling(max_tokens=16)


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


@pytest.fixture(scope="module")
def prompts(template: ChatTemplate) -> tuple[Prompt, ...]:
    """The toy's."""
    return load_prompts(compose([*TINY, "data.size=512"]).config.data, template, 1).train


# ------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["stages.cre.view={}"], r"stages.cre.view.part = all: would learn from users of the test split"),
        (["stages.sft.view.part=test"], r"stages.sft.view.part = test: would learn.*\n.*stages.sft.view.part=train"),
        (["stages.hard.source.shares=[0.5,0.25]"], "fall: a curriculum grows harder"),
        (["stages.hard.source.shares=[1.5]"], "each between 0 and 1"),
        (["stages.hard.source.steps=7"], "is not that of the stage"),
        (["stages.users.greedy=true"], "are all the same"),
        (["stages.users.strategy.store="], "there are no neighbours to ask"),
        (["stages.users.strategy.own=0", "stages.users.strategy.neighbours=0"], "not both 0"),
        (["stages.users.strategy.weights=[1]"], "give two"),
        (["stages.prototypes.estimator.clusters=0"], "clusters is 0"),
        (["stages.prototypes.estimator.refine.lr=0"], "lr=0"),
        (["rewards.format.fn.penalty=0"], "penalty is 0"),
        (["rewards.process.fn.judge={}"], "judge is empty"),
        (["data.generator.kinds=0"], "must be 1 or more"),
        (["data.generator.clear=11"], "no choice is clearer than 10"),
    ],
)
def test_settings_that_do_not_go_together_are_named(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*TINY, *overrides])


@pytest.mark.parametrize(
    "overrides",
    [
        ["stages.cre.weights.process=0"],
        ["stages.cre.weights.outcome=0"],
        ["~stages.hard", "~stages.mine"],
        ["stages.users.strategy.own=0", "stages.users.strategy.neighbours=8"],
        ["stages.prototypes.estimator.refine.released=true"],
        ["stages.users.strategy.distinct=true", "rewards.outcome.fn.tie=first"],
    ],
)
def test_arms_of_the_digest_compose(overrides: list[str]) -> None:
    make_plan(compose([*TINY, *overrides]))


def test_the_papers_values_stand_at_every_other_scale() -> None:
    plain = compose(
        ["recipe=p_genrm", "scale=gpu", "data.generator.path=x.jsonl", "model.tiny.context=6144"]
    ).config.stages
    assert dict(plain["cre"]["weights"]) == {"format": 1, "outcome": 1.0, "process": 0.5}
    assert plain["prototypes"]["estimator"]["clusters"] == 50
    assert (plain["users"]["strategy"]["own"], plain["users"]["strategy"]["neighbours"]) == (8, 4)


# ---------------------------------------------------------------------------------------------------------- data


def choices(path: Path, rows: list[dict[str, Any]], **settings: Any) -> list[Item]:
    generator = PersonalChoices(PersonalChoices.Config(path=str(written(path, rows)), **settings))
    return [item_of(row.meta, row.place) for row in generator.rows(0, 1)]


def test_only_train_choices_feed_the_histories_of_held_out_users(tmp_path: Path) -> None:
    splits = list(enumerate(["train"] * 4 + ["val", "test"]))
    rows = [choice_row("held", n, split, user_split="test") for n, split in splits]
    rows += [choice_row("seen", n, split, user_split="train") for n, split in splits]
    items = choices(tmp_path / "c.jsonl", rows)
    held = [one for one in items if one.part is UserSplit.test]
    seen = [one for one in items if one.part is UserSplit.train]
    assert len(held) == 1 and len(seen) == 5, "of a held-out user the test row, of others train and val"
    assert {past.chosen for past in held[0].history} < {f"good held {n}" for n in range(4)}
    for one in seen:
        assert len(one.history) == 3 and not {past.chosen for past in one.history} & set(one.responses)
        assert all("seen 5" not in past.chosen for past in one.history)
    assert {one.best for one in items} == {0, 1}, "the chosen response stands first and second"
    assert [one.gap for one in seen] == [60, 61, 62, 63, 64]
    again = choice_row("seen", 7, "train", user_split="train") | {"rejected": "good seen 0"}
    past = {one.responses[one.best]: one.history for one in choices(tmp_path / "e.jsonl", [*rows, again])}
    assert all(choice.rejected != "good seen 0" for choice in past["good seen 0"]), "nor is it shown as a rejected one"
    assert choices(tmp_path / "d.jsonl", rows) == items, "the same histories and orders, whoever asks"


def test_users_of_a_second_file_are_all_held_out(tmp_path: Path) -> None:
    rows = [choice_row("a", n) for n in range(4)]
    ranked = {"user_id": "b", "split": "test", "context": "q", "responses": ["1", "2", "3"], "ratings": [3, 1, 2]}
    other = written(tmp_path / "o.jsonl", [*(choice_row("b", n) for n in range(2)), ranked])
    items = choices(tmp_path / "c.jsonl", rows, held_out=0.0, ood=str(other))
    (ood,) = [one for one in items if one.part is UserSplit.ood]
    assert dict(zip(ood.responses, ood.gold, strict=True)) == {"1": 3, "2": 1, "3": 2} and len(ood.history) == 2
    with pytest.raises(DataError, match=r"o2.jsonl:1: user 'a' is of the train split and of the ood split; fix"):
        choices(tmp_path / "c.jsonl", rows, held_out=0.0, ood=str(written(tmp_path / "o2.jsonl", [choice_row("a", 1)])))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"split": "dev"}, "split='dev' is none of train, val, test"),
        ({"split": None}, "split=None"),
        ({"user_id": None}, "user_id=None names nobody"),
        ({"user_split": "x"}, "user_split='x'"),
        ({"chosen": None}, "chosen='None' is no text"),
        ({"rejected": {"role": "assistant", "content": " "}}, "rejected="),
        ({"context": []}, "context="),
        ({"rejected": "good u 9", "chosen": "good u 9"}, "are the same text"),
        ({"chosen_score": 20}, "chosen_score=20 is not above rejected_score=20"),
        ({"chosen_score": None}, "chosen_score=None is no number"),
        ({"chosen_score": "80"}, "chosen_score='80' is no number"),
        ({"responses": ["a"], "ratings": [1]}, "not as many, two or more"),
        ({"responses": ["a", "a"], "ratings": [1, 2]}, "all different"),
        ({"responses": ["a", "b"], "ratings": [1, 1]}, "no single best"),
        ({"criteria": "brevity"}, "criteria='brevity' is no list of names"),
        ({"criteria": {"brevity": "much"}}, "criteria.brevity='much' is no number"),
        ({"choice_attributes": 3}, "choice_attributes='3' is no list"),
        ({"stated": ["brief"]}, "is no text"),
        ({"user_split": "train"}, "has no user_split, and other rows do"),
    ],
)
def test_a_row_that_is_no_choice_is_refused_with_its_place(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    rows = [choice_row("u", 0), {**choice_row("u", 9), **row}]
    with pytest.raises(DataError, match=rf"c.jsonl:[12]: .*{said}.*; fix: "):
        choices(tmp_path / "c.jsonl", rows)


def test_a_user_of_two_splits_and_one_without_a_past_are_refused(tmp_path: Path) -> None:
    rows = [choice_row("u", n, user_split=split) for n, split in enumerate(("train", "test"))]
    with pytest.raises(DataError, match=r"c.jsonl:2: user 'u' is of the train split and of the test split; fix"):
        choices(tmp_path / "c.jsonl", rows)
    with pytest.raises(DataError, match=r"c.jsonl:1: user 'u' has 0 past choices .*; fix: .*data.generator.least=0"):
        choices(tmp_path / "c.jsonl", [choice_row("u", 0)], held_out=0.0)
    (lonely,) = choices(tmp_path / "c.jsonl", [choice_row("u", 0)], held_out=0.0, least=0)
    assert lonely.history == ()


# --------------------------------------------------------------------------------------------------------- views


def view(template: ChatTemplate, **settings: Any) -> Asked:
    return Asked(Asked.Config(form=LETTERS, **settings), tokenizer=template, seed=1)


def test_views_show_one_split_and_what_they_are_told_to(template: ChatTemplate, prompts: tuple[Prompt, ...]) -> None:
    users = {part: {of_prompt(p).user for p in view(template, part=part).prompts(prompts)} for part in UserSplit}
    assert all(users.values()) and not users[UserSplit.train] & (users[UserSplit.test] | users[UserSplit.ood])
    train = view(template).prompts(prompts)
    shown = {kind: view(template, shown=kind).prompts(prompts) for kind in Shown}
    assert shown[Shown.history] == train and all("!" not in p.messages[0]["content"] for p in train)
    half = sum("!" in p.messages[0]["content"] for p in shown[Shown.half])
    assert 0.4 < half / len(train) < 0.6
    for before, told in zip(train, shown[Shown.teacher], strict=True):
        assert told.id == before.id and told.messages[0]["content"].endswith(f"!{of_prompt(told).stated}?")
        decoded = template.tokenizer.decode(told.token_ids)
        assert told.messages[0]["content"] in decoded
    with pytest.raises(DataError, match=r"none of \d+ items is of a user of part=ood; there are train; fix"):
        view(template, part=UserSplit.ood).prompts(train)


def test_the_toys_teacher_and_judge(prompts: tuple[Prompt, ...]) -> None:
    """Chains are in form; without errors they agree with the user; the judge pays the weights that they name."""
    errors = 0
    for number, prompt in enumerate(prompts[:200]):
        made = of_prompt(prompt)
        said = teacher(FORM.messages(made, teacher=True), SAMPLING, number, wrong=0.0)
        chain = FORM.read(said, 2)
        assert chain is not None and sum(chain.weights.values()) == 100 and chain.weights == made.criteria
        assert (chain.scores[0] > chain.scores[1]) == (made.best == 0)
        noisy = FORM.read(teacher(FORM.messages(made, teacher=True), SAMPLING, number), 2)
        assert noisy is not None
        errors += noisy.weights != made.criteria
        asked_judge = {"criteria": made.criteria, "reasoning": said}
        message = {"role": "user", "content": orjson.dumps(asked_judge).decode()}
        assert float(judge([message], SAMPLING, 0)) == 1.0
    assert 60 <= errors <= 100
    partly = {"criteria": {"a": 60, "c": 40}, "reasoning": "ab;a6b4;66"}
    assert float(judge([{"role": "user", "content": orjson.dumps(partly).decode()}], SAMPLING, 0)) == 0.5
    assert liked("acd", "x") == {"a": 6, "c": 4} and liked("acd", "y") == {"a": 6, "d": 4}


# ------------------------------------------------------------------------------------------------------- figures


def test_every_figure_of_an_evaluation(template: ChatTemplate) -> None:
    def sample(score: float, scores: list[float] | None, prototype: int) -> Trajectory:
        details = {"parsed": scores is not None, "tie": scores is not None and scores[0] == scores[1], "scores": scores}
        payload = {"scaled": {"scores": scores, "prototype": prototype}}
        return trajectory("c", rewards={"outcome": Value(score=score, details=details)}, payload=payload)

    groups = [
        group(sample(1.0, [0, 6], 0), sample(0.0, None, 0), prompt=asked(template, item(gap=2.0), 0)),
        group(sample(0.0, [5, 5], 1), prompt=asked(template, item(gap=9.0), 1)),
        group(trajectory("c", rewards={"outcome": Missing(reason="gone")}), prompt=asked(template, item(), 2)),
    ]
    measure = Judgements(Judgements.Config())
    figures = measure.metrics(groups)
    assert figures["accuracy"] == figures["first"] == figures["tie"] == pytest.approx(1 / 3)
    assert figures["parsed"] == pytest.approx(2 / 3) and "spearman" not in figures
    assert figures["hard"] == 0.5 and figures["easy"] == 0.0 and figures["macro"] == 0.25 and figures["prototypes"] == 2
    assert len(measure.table(groups)) == 3 and measure.metrics([]) == {}


def test_every_figure_of_a_step() -> None:
    def sample(parsed: bool, tie: bool, outcome: float) -> Trajectory:
        value = Value(score=outcome, details={"parsed": parsed, "tie": tie})
        return trajectory("c", rewards={"format": 0.0 if parsed else -0.1, "outcome": value, "process": 0.5})

    part = ChainFigures(ChainFigures.Config(), {"format": 1.0, "outcome": 1.0, "process": 0.5}, 13)
    made = group(sample(True, False, 1.0), sample(True, True, 0.0), sample(False, False, 0.0))
    (one,) = logged(part, scored(part, [made]))
    assert one.metrics["chains/parsed"] == pytest.approx(2 / 3) and one.metrics["chains/tie"] == pytest.approx(1 / 3)
    assert one.metrics["chains/format_error"] == pytest.approx(1 / 3)
    assert {"reward/format", "reward/outcome", "reward/process"} <= set(one.metrics)


def test_past_choices_are_as_clear_as_is_asked() -> None:
    rng, weights = np.random.default_rng(0), liked("abc", "y")
    for clear in (0, 6, 10):
        choices = [choice_of("abc", "y", rng, clear) for _ in range(100)]
        gaps = {total(choice.chosen, weights) - total(choice.rejected, weights) for choice in choices}
        assert min(gaps) == {0: 2, 6: 6, 10: 10}[clear]
    for row in Letters(Letters.Config(clear=10)).rows(128, 1):
        past = item_of(row.meta, row.place).history
        same = {choice.query: choice.chosen for choice in past}
        assert all(choice.chosen == same[choice.query] for choice in past), "just what is liked, in every situation"
