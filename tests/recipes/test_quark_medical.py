"""Quark Medical's combiner and diagnosis within a run: settings, statistics, state, tables, and other recipes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.config.compose import compose, compose_with_problems
from raylign.contracts import PlacedRow
from raylign.errors import CheckpointError, ConfigError
from raylign.loop.scoring import logged, scored
from raylign.plan import make_plan
from raylign.recipes.quark_medical import Diagnosis, HashedOrm, ReferenceFrozen
from raylign.recipes.quark_medical.combiner import Mode, Unmeasured
from raylign.recipes.quark_medical.comparisons import RowColumns
from raylign.recipes.quark_medical.diagnosis import attribution
from raylign.recipes.quark_medical.factors import Factor, Factors, Risk
from raylign.recipes.quark_medical.pairwise import Network
from raylign.records import Group, Value
from raylign.testing import FakeRewards, fake_loop, group, prompt, trajectory

TINY = ["recipe=quark_medical", "scale=tiny"]
SHAPER, DIAGNOSIS = "stages.rl.shaper", "stages.after.measures.diagnosis"
NAMES = ("helpful", "facts", "safety")
CATEGORIES = {"fundamental capability": ["helpful", "facts"], "format and safety": ["safety"]}


@pytest.fixture
def statistics(tmp_path: Path) -> str:
    return written(tmp_path / "statistics.json", NAMES)


def written(path: Path, names: Sequence[str]) -> str:
    of = {"count": 9, "mean": 0.0, "std": 1.0, "quantiles": {"0": -1.0, "1": 1.0}}
    path.write_text(json.dumps({"rewards": dict.fromkeys(names, of)}))
    return str(path)


def shaper(statistics: str, **settings: Any) -> ReferenceFrozen:
    factors = Factors(risk={"safety": Risk()})
    config = ReferenceFrozen.Config(statistics=statistics, **{"factors": factors, **settings})
    return ReferenceFrozen(config, dict.fromkeys(NAMES, 1.0), max_tokens=9)


def groups(seed: int, **changed: Any) -> list[Group]:
    """changed: a reward's function of its old value."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(4):
        rows = rng.normal(size=(6, 3)) * [1, 1, 0]
        rows[:, 2] = -1.0 * (rng.random(6) < 0.3)
        samples = [
            trajectory(
                "a",
                rewards={
                    name: Value(score=changed.get(name, float)(value), details={"lost": ["dose"] if value < 0 else []})
                    for name, value in zip(NAMES, row, strict=True)
                },
            )
            for row in rows
        ]
        made.append(group(*samples, prompt=prompt(number, domain="ab"[number % 2])))
    return made


# ------------------------------------------------------------------------------------------------------ settings


ALONE = {  # wrong by themselves
    f"{SHAPER}.scaling.clip=0": "clip=0.0, epsilon=0.001: set both above 0",
    "rewards.facts.fn.split='(;)'": "has groups, which would become assertions",
    "rewards.rubric.fn.scoring.rho_pitfall=2": "rho_essential=0.5, rho_pitfall=2.0 are shares",
    "rewards.format.fn.wanted=['(']": "is no regular expression",
    "rewards.safety.fn.dose='x'": "must have two groups: the number and its unit",
    "stages.orm.estimator.tie_weight=-1": "tie_weight=-1.0, margin=0.0: set them to 0 or more",
    "stages.feedback.estimator.columns.weights=[1,2]": "has no number for each of grade=",
}
TOGETHER = {  # wrong within the run
    f"{SHAPER}.factors.risk.nothing.beta=4": "nothing: are no rewards of this stage",
    "rewards.safety.weight=-1": "rewards.safety.weight = -1.0: below 0",
    "stages.calibrate.weights={orm: 1}": "measures orm; the rewards with a weight are facts, feedback",
    f"{DIAGNOSIS}.categories={{a: [nothing]}}": "nothing: are no rewards of this run",
    "rewards.facts.fn.evidence=": "there is nothing to check by",
}


@pytest.mark.parametrize("wrong", [ALONE, TOGETHER])
def test_settings_that_do_not_go_together_are_all_named(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        compose([*TINY, *wrong])
    said = str(refused.value)
    assert not [text for text in wrong.values() if text not in said], said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"red_line": "format"}, "red_line=format needs a floor: add factors.risk.format"),
        ({"mode": Mode.raw, "unmeasured": Unmeasured.neutral}, "0 is no neutral value of a raw reward"),
    ],
)
def test_settings_of_the_combiner(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ReferenceFrozen.Config(**settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.01}, "temperature=0.01: set it to 0.05 or more"),
        ({"ema": 1.0}, "ema=1.0: set it from 0 to below 1"),
        ({"low": 2.0}, "weights begin at 1"),
        ({"v_max": 0.0}, "v_max=0.0 is a share"),
        ({"every": 0}, "every=0"),
    ],
)
def test_settings_of_the_factors(settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Factors(**settings)


@pytest.mark.parametrize(
    "overrides",
    [
        [f"{SHAPER}.mode=raw", f"{SHAPER}.statistics=", "stages.orm.estimator.tie_sign=printed"],
        [f"{SHAPER}.factors.use=[weakness,risk]", f"{SHAPER}.red_line=safety", f"{SHAPER}.scaling.domains=true"],
        ["rewards.feedback.weight=0", f"{SHAPER}.mode=group_z"],
    ],
)
def test_arms_of_the_digest_compose(overrides: list[str]) -> None:
    make_plan(compose([*TINY, *overrides]))


@pytest.mark.parametrize(
    ("named", "said"),
    [("", "tri_factor needs the statistics of the reference"), ("nothing.json", "holds no statistics of a Calibrate")],
)
def test_statistics_must_be_there(named: str, said: str) -> None:
    run = compose(TINY)
    config = replace(run.parts[SHAPER].config, statistics=named)
    (problem,) = ReferenceFrozen.problems(SHAPER, config, run)
    assert said in problem.why and problem.key == f"{SHAPER}.statistics" and "Calibrate" in problem.fix


def test_statistics_of_other_rewards_are_told_with_both_sets(tmp_path: Path) -> None:
    path = written(tmp_path / "statistics.json", ["orm", "old"])
    _, problems = compose_with_problems([*TINY, f"{SHAPER}.statistics={path}"])
    (problem,) = [each for each in problems if each.key == f"{SHAPER}.statistics"]
    assert "has statistics of old, orm; the rewards with a weight are facts, feedback, format" in problem.why
    with pytest.raises(ConfigError, match="has statistics of old, orm"):
        shaper(path)
    Path(path).write_text('{"rewards": {"orm": {"mean": 1, "std": null, "quantiles": {"0": 0, "1": 1}}}}')
    with pytest.raises(ConfigError, match="the statistics of orm are not finite numbers"):
        shaper(path)


# --------------------------------------------------------------------------------------------------------- state


def test_state_goes_through_json_to_the_last_bit(statistics: str) -> None:
    whole, first = shaper(statistics), shaper(statistics)
    for seed in range(3):
        assert [g.scores for g in whole.score(groups(seed))] == [g.scores for g in first.score(groups(seed))]
    again = shaper(statistics)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for seed in range(3, 6):
        assert [g.scores for g in whole.score(groups(seed))] == [g.scores for g in again.score(groups(seed))]
    assert whole.state_dict() == again.state_dict() and whole.state_dict() != first.state_dict()
    assert whole.state_dict()["batches"] == 6


def test_a_state_that_does_not_fit_is_refused(statistics: str) -> None:
    moved = shaper(statistics)
    moved.score(groups(0))
    state = moved.state_dict()
    with pytest.raises(CheckpointError, match="which ReferenceFrozen does not take up"):
        shaper(statistics, mode=Mode.equal).load_state_dict(state)
    with pytest.raises(CheckpointError, match="weights of helpful, other, and the run's rewards are helpful, facts"):
        shaper(statistics).load_state_dict({**state, "names": ["helpful", "other"]})
    with pytest.raises(CheckpointError, match="the checkpoint's weights are"):
        shaper(statistics).load_state_dict({**state, "weights": [None, 1.0, 1.0]})


def test_metrics_move_nothing_and_an_evaluation_needs_no_weights(statistics: str) -> None:
    part = shaper(statistics)
    (fresh, *_) = part.metrics(groups(0))
    assert {"map/raw_mean/facts", "map/norm_std/safety", "map/share/helpful", "map/flat/safety"} <= set(fresh.group)
    assert not part.state_dict() and not [name for name in fresh.group if name.startswith("map/weight")]
    (first, *_) = logged(part, scored(part, groups(0)))
    kinds = ("weight", "weakness", "risk", "redundancy", "average")
    assert {f"map/{kind}/{name}" for kind in kinds for name in NAMES} <= set(first.metrics)
    assert "map/violation/safety" in first.metrics and "map/violation/facts" not in first.metrics
    assert {"map/corr/helpful_facts", "map/corr/facts_safety"} <= set(first.metrics)
    before = part.state_dict()
    part.metrics(groups(1))
    assert part.state_dict() == before


async def test_it_drives_the_real_loop(statistics: str) -> None:
    """Threes are good; the other reward is a hundred times as large, and noise."""
    rules: Any = {
        "helpful": lambda prompt, one: float(one.text.count("3")),
        "facts": lambda prompt, one: 0.0,
        "safety": lambda prompt, one: -float("7" in one.text),
    }
    loop = fake_loop(FakeRewards(rules), shaper=shaper(statistics))
    first, *_, last = [await loop.step(step) for step in range(25)]
    assert last.metrics["reward/helpful"] > first.metrics["reward/helpful"]
    assert last.metrics["map/weight/safety"] != 1.0 and loop.state_dict()["shaper"]["batches"] == 25


# ----------------------------------------------------------------------------------------------------- diagnosis


def diagnosis(statistics: str, **settings: Any) -> Diagnosis:
    factors = Factors(risk={"safety": Risk()})
    return Diagnosis(Diagnosis.Config(statistics=statistics, categories=CATEGORIES, **{"factors": factors, **settings}))


def by_reward(part: Diagnosis, evaluated: list[Group]) -> dict[str, dict[str, Any]]:
    return {row["reward"]: dict(row) for row in part.table(evaluated)}


def test_one_reward_changes_and_its_row_moves(statistics: str) -> None:
    part = diagnosis(statistics)
    before, after = by_reward(part, groups(0)), by_reward(part, groups(0, facts=lambda value: float(value) - 2.0))
    assert after["facts"]["normalized"] == pytest.approx(before["facts"]["normalized"] - 2.0)
    assert after["facts"]["mean"] == pytest.approx(before["facts"]["mean"] - 2.0)
    assert after["facts"]["weight"] > before["facts"]["weight"] and after["facts"]["attribution"] == "weakness"
    assert next(iter(after)) == "facts", "the weakest stands first"
    for name in ("helpful", "safety"):
        for kind in set(before[name]) - {"weakness", "weight", "attribution"}:
            value = before[name][kind]
            assert after[name][kind] == (pytest.approx(value) if isinstance(value, float) else value)
        assert after[name]["weight"] < before[name]["weight"]
    assert part.metrics(groups(0))["least"] == min(row["normalized"] for row in before.values())


def test_a_row_says_why(statistics: str) -> None:
    rows = by_reward(diagnosis(statistics), groups(0))
    assert rows["safety"]["attribution"] == "risk" and rows["safety"]["violation"] > 0.05
    assert rows["safety"]["risk"] == 5.0 and rows["safety"]["category"] == "format and safety"
    assert rows["safety"]["lost"] == "dose" and rows["safety"]["lost_share"] == rows["safety"]["violation"]
    assert rows["facts"]["domain"] in ("a", "b") and rows["facts"]["reference"] == 0.0
    same = [
        group(*(trajectory("a", rewards={"helpful": v, "facts": v, "safety": 0.0}) for v in row - row.mean()))
        for row in np.random.default_rng(0).normal(size=(4, 6))
    ]
    copied = by_reward(diagnosis(statistics), same)
    assert copied["facts"]["copies"] == "helpful" and copied["facts"]["attribution"] == "redundancy"
    assert copied["facts"]["redundancy"] == pytest.approx(0.5) and copied["safety"]["attribution"] == "none"


def test_the_weight_of_a_row_is_where_training_would_come_to(statistics: str) -> None:
    """Far from it at first: the table goes by the evaluated policy, not by how training came there."""
    part = shaper(statistics)
    for _ in range(60):
        part.score(groups(0))
    rows = by_reward(diagnosis(statistics), groups(0))
    np.testing.assert_allclose([rows[name]["weight"] for name in NAMES], part.weighting.weights, atol=0.01)


def test_a_reward_that_was_not_asked_has_no_row(statistics: str) -> None:
    asked = [group(trajectory("a", rewards={"facts": 1.0}), trajectory("b", rewards={"facts": 0.0}))]
    assert list(by_reward(diagnosis(statistics), asked)) == ["facts"]
    assert diagnosis(statistics).table([]) == [] and diagnosis(statistics).metrics([]) == {}


def test_attribution() -> None:
    assert attribution({Factor.weakness: 0.2, Factor.risk: 3.0, Factor.redundancy: 0.9}) == "ahead"
    assert attribution({Factor.weakness: 3.0, Factor.risk: 2.0, Factor.redundancy: 0.9}) == "weakness"
    assert attribution({Factor.weakness: 1.01, Factor.risk: 1.0, Factor.redundancy: 0.98}) == "none"


# ------------------------------------------------------------------------------------------------- other recipes


def test_its_combiner_scores_the_rewards_of_another_recipe(tmp_path: Path) -> None:
    path = written(tmp_path / "statistics.json", ["correct", "short"])
    run = compose(
        [
            "recipe=grpo",
            "scale=tiny",
            "+rewards.short={fn: {_target_: raylign.recipes.quark_medical.Format, longest: 3}}",
            "+stages.rl.shaper={_target_: raylign.recipes.quark_medical.ReferenceFrozen, mode: equal, "
            f"statistics: {path}}}",
        ]
    )
    make_plan(run)
    part: Any = run.part("shaper", "rl").build(weights=run.weights("rl"), max_tokens=9, tokenizer=None, seed=0)
    (got,) = part.score([group(trajectory("a", rewards={"correct": 1.0, "short": -0.5}), trajectory("b", rewards={}))])
    assert got.scores == (pytest.approx(0.5), None)


def test_the_orm_is_a_reward_under_grpo(tmp_path: Path) -> None:
    columns = RowColumns(question="question", answer="answer", grade=["grade"])
    orm = HashedOrm(HashedOrm.Config(columns=columns, network=Network(buckets=64, hidden=8, epochs=40)))
    rows = [
        {"question": f"is {n} odd", "answer": said, "grade": float(said == "yes it is")}
        for n in range(40)
        for said in ("yes it is", "no idea")
    ]
    orm.fit([PlacedRow(f"a:{n}", row) for n, row in enumerate(rows)], seed=1)
    orm.save(tmp_path)
    settings = "columns: {question: question, answer: answer, grade: [grade]}, "
    settings += "network: {buckets: 64, hidden: 8, epochs: 40}"
    fn = f"{{_target_: raylign.actors.reward.fitted.Fitted, fitted: {tmp_path}, estimator: "
    fn += f"{{_target_: raylign.recipes.quark_medical.HashedOrm, {settings}}}}}"
    run = compose(["recipe=grpo", "scale=tiny", f"+rewards.orm={{fn: {fn}}}", "rewards.correct.weight=0"])
    make_plan(run)
    reward: Any = run.parts["rewards.orm.fn"].build()
    good, bad = reward.score(prompt(text="is 3 odd"), [trajectory("yes it is"), trajectory("no idea")])
    assert good.score > bad.score
