"""Plans and refusals of whole runs, the composition with another recipe, and the toy task; no engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.experiments._inject_rbp_markov import simulate
from inject_rbp_cases import parser

from raylign.actors.reward.response import trajectory_of
from raylign.config.compose import compose, recipes
from raylign.errors import ConfigError, DataError
from raylign.plan import make_plan
from raylign.recipes.inject_rbp.behaviours import Separator
from raylign.recipes.inject_rbp.injection import Inject
from raylign.recipes.inject_rbp.toy import LETTERS, Sum, SumReward, Sums, asked, habit, plan_block, trace
from raylign.records import Prompt

GPU = ["recipe=inject_rbp", "scale=gpu", "model.tiny.context=20000"]


def test_no_learner_is_planned(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "1+1? Put it in a box.", "answer": "2"}\n' * 2)
    run = compose([*GPU, f"data.path={data}"])
    assert {role.name for role in make_plan(run).roles} == {"rollout", "reward/correct"}
    assert not any("learner" in stage.roles for stage in run.stages)
    rlopt = run.parts["stages.rlopt.view"].config
    assert (rlopt.top, rlopt.chains, rlopt.form.name, rlopt.shown) == (5, 32, "patterns", True)
    fitted = run.parts["stages.fit.estimator"].config
    assert (fitted.gamma, fitted.tau, fitted.kappa, fitted.values.name) == (0.98, 0.05, 5.0, "mc")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.rlopt.split=train", "was made of the very questions that stages.rlopt asks.*split=holdout"),
        ("stages.rlopt.view.store=@history", "is none of what the stage leaves"),
        ("stages.rlopt.view.store=", r"stages.rlopt.view.store = empty: there are no patterns to inject"),
        ("stages.rlopt.view.store=nowhere", "stages.rlopt.view.store = nowhere: is no folder"),
        ("stages.rlopt.view.arm=best", "stages.rlopt.view.arm"),
        ("stages.rlopt.measures.behaviour.against=@unchanged/behaviour", "is none of what the stage leaves"),
        ("stages.fit.estimator.behaviours.lexicon={X: [x]}", "'X' is no behaviour"),
        ("stages.unchanged.of=@pretrain", "is none of what the stage leaves"),
    ],
)
def test_bad_settings_are_told_before_work(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        compose(["recipe=inject_rbp", "scale=tiny", override])


def test_learning_between_the_seals_is_refused() -> None:
    learn = "+stages.learn={_target_: raylign.recipes.inject_rbp.Pretrain, steps: 1}"
    last = "+stages.last={_target_: raylign.recipes.inject_rbp.Seal, of: '@sealed'}"
    with pytest.raises(ConfigError, match=r"stages.learn learns in between, so that the model cannot be the same"):
        compose(["recipe=inject_rbp", "scale=tiny", learn, last])


def test_it_injects_into_an_evaluation_of_arlcp_by_overrides_alone() -> None:
    if "arlcp" not in recipes():
        pytest.skip("recipe arlcp is not installed")
    history = "{_target_: raylign.recipes.stages.generate.Generate, samples: 4, truncated: true}"
    fit = "{_target_: raylign.recipes.stages.fit.Fit, data: '@history', estimator: {by: '', "
    fit += "_target_: raylign.recipes.inject_rbp.PatternTable}}"
    after = "{_target_: raylign.recipes.stages.evaluate.Evaluate, samples: 4, greedy: false, view: {store: '@fit', "
    after += "_target_: raylign.recipes.inject_rbp.Inject, arm: rlopt}, measures: {behaviour: {_target_: "
    after += "raylign.recipes.inject_rbp.Compliance}}}"
    stages = [f"+stages.history={history}", f"+stages.fit={fit}", f"+stages.injected={after}"]
    run = compose(["recipe=arlcp", "scale=tiny", *stages])
    assert [stage.name for stage in run.stages][-3:] == ["history", "fit", "injected"]
    assert run.parts["stages.injected.view"].cls is Inject
    make_plan(run)


# -------------------------------------------------------------------------------------------------------------- toy


def test_the_toys_traces_and_their_reward() -> None:
    made = list(Sums(Sums.Config()).rows(0, seed=1))
    assert len(made) == 1024 == len({row.messages[0]["content"] for row in made})
    with pytest.raises(DataError, match=r"data.size=2000: there are 1024 sums"):
        list(Sums(Sums.Config()).rows(2000, seed=1))
    reward, rng, right = SumReward(SumReward.Config()), np.random.default_rng(0), dict[str, list[float]]()
    own = parser(separator=Separator.newline, lexicon={symbol: [f"{symbol.lower()}*"] for symbol in "OPSEVC"})
    for row in made:
        question = str(row.messages[0]["content"])
        family, summands = asked(question)
        assert family == row.domain and row.answer == LETTERS[sum(summands) % 8]
        judged = Prompt(id="x", messages=row.messages, token_ids=np.zeros(0, np.int32), answer=row.answer)
        for name, chain in (("habit", habit(family, rng)), ("OPVC", "OPVC"), ("OEPC", "OEPC"), ("OPC", "OPC")):
            text = trace(family, summands, chain, rng)
            assert own.chain(text) == chain and len(chain) <= 9
            (verdict,) = reward.score(judged, [trajectory_of(judged, text)])
            right.setdefault(f"{family}/{name}", []).append(verdict.score)
        gold, wrong = reward.gold(judged), reward.wrong(judged)
        assert gold and wrong and reward.judge(judged, gold).score == 1 and reward.judge(judged, wrong).score == 0
    mean = {name: float(np.mean(scores)) for name, scores in right.items()}
    assert mean["slips/OPVC"] == mean["detours/OEPC"] == 1
    assert mean["slips/OPC"] == pytest.approx(0.7, abs=0.06) and mean["detours/OPVC"] == pytest.approx(1 / 8, abs=0.05)
    assert 0.3 < mean["slips/habit"] < 0.5 and 0.15 < mean["detours/habit"] < 0.4
    assert plan_block("OPV") == "1O2P3V|"
    with pytest.raises(ValueError, match="choose from slips, detours"):
        Sums.Config(families=["slip"])
    with pytest.raises(DataError, match="is none of the sums"):
        asked("what?")


def test_verification_repairs_only_what_stands_before_it() -> None:
    rng = np.random.default_rng(0)
    under_way = Sum.of("slips", [3, 2, 5])
    under_way.paragraph("P", rng)
    under_way.total = 0  # a slip
    assert under_way.paragraph("V", rng) == "Vpdqcfrfc" and under_way.total == 2
    under_way.total = 0
    assert under_way.paragraph("S", rng) == "Sa" and under_way.paragraph("V", rng) == "Va"
    lost = Sum.of("detours", [3, 2, 5])
    assert lost.paragraph("O", rng) == "Oxa." and lost.paragraph("P", rng) == "Pxaqccrfh"
    assert lost.paragraph("E", rng) == "Exdh" and lost.paragraph("P", rng) == "Pxdqcfrfc"


# ------------------------------------------------------------------------------------------------ simulated reasoner


def test_a_simulated_reasoner_is_helped_in_the_digests_order() -> None:
    """Test A at a fraction of its size: six seeds of fewer chains."""
    runs = [simulate(500, seed, chains=1500) for seed in range(6)]
    mean = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    assert mean["none"] == pytest.approx(0.288, abs=0.01), "the digest's own figure"
    assert mean["incorrect"] < mean["none"] - 0.01 and mean["correct"] == pytest.approx(0.371, abs=0.02)
    assert mean["rasp"] > mean["naive"] > mean["correct"] + 0.02
