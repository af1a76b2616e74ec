"""ARLCP's parts at work on records: the gate, the shaper within groups, what it logs, and its use from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raylign import testing
from raylign.actors.reward.response import trajectory_of
from raylign.actors.reward.think_gate import ThinkGate
from raylign.config.build import build, part_config
from raylign.config.compose import compose, compose_with_problems, layered, recipes
from raylign.config.schema import Schedule
from raylign.contracts import Part
from raylign.errors import ConfigError, RewardError
from raylign.loop.reward_metrics import reward_metrics
from raylign.loop.scoring import logged, scored
from raylign.objectives.aggregate import Aggregation
from raylign.recipes.arlcp import ReflectionPenalty
from raylign.recipes.arlcp.toy import ToyThought, ToyTraces
from raylign.records import Group, Missing, Prompt, Value
from raylign.telemetry.alarms import Alarms
from raylign.testing import call, rows_of, trajectory

SHAPER = {"_target_": "raylign.recipes.arlcp.ReflectionPenalty", "n_1": 1, "n_2": 2}
GATE = {
    "_target_": "raylign.actors.reward.think_gate.ThinkGate",
    "verifier": {"_target_": "raylign.actors.reward.boxed.BoxedMath"},
}


def prompt(answer: str = "7", text: str = "same text", **fields: Any) -> Prompt:
    return testing.prompt(text=text, **{"id": "p", "answer": answer, **fields})


def group(rows: list[tuple[str, int, Any]], **fields: Any) -> Group:
    samples = [trajectory(call(text, length), rewards={"correct": verdict}) for text, length, verdict in rows]
    return testing.group(*samples, prompt=prompt(**fields))


def shaper(**choices: Any) -> ReflectionPenalty:
    made: ReflectionPenalty = build(Part, SHAPER | choices, "shaper", weights={"correct": 1.0}, max_tokens=64)
    return made


def shape(shaper: ReflectionPenalty, groups: list[Group]) -> list[Group]:
    return logged(shaper, scored(shaper, groups))


ROWS: list[tuple[str, int, Any]] = [("wait", 10, 1), ("wait but hmm oh", 40, 1), ("but wait", 20, 0), ("so", 15, 1)]


@pytest.fixture(scope="module")
def gate() -> ThinkGate:
    made: ThinkGate = build(Part, GATE, "rewards.correct.fn")
    return made


@pytest.mark.parametrize(
    ("response", "score", "well_formed", "ungated"),
    [
        (r"thought</think> so \boxed{7}", 1, 1, 1),
        (r"thought</think> so \fbox{7}", 1, 1, 1),
        (r"thought</think> \boxed{7} or \boxed{8}", 0, 1, 0),
        (r"<think>thought</think> \boxed{7}", 0, 0, 1),  # the template has opened it already
        (r"a</think>b</think> \boxed{7}", 0, 0, 1),
        (r"thought cut off, \boxed{7}", 0, 0, 1),
        (r"thought \boxed{7}</think> the answer is 7", 0, 1, 1),  # nothing boxed behind the tag
        (r"thought</think> \boxed{\frac{14}{2}}", 1, 1, 1),
        (r"thought</think> \boxed{7", 0, 1, 0),
        ("", 0, 0, 0),
    ],
)
def test_gate(gate: ThinkGate, response: str, score: float, well_formed: float, ungated: float) -> None:
    value = gate.score(prompt(), [trajectory_of(prompt(), response)])[0]
    assert (value.score, value.details["format"], value.details["ungated"]) == (score, well_formed, ungated)


def test_gate_proves_itself_and_keeps_its_verifiers_isolation(gate: ThinkGate) -> None:
    gold, wrong = gate.gold(prompt()), gate.wrong(prompt())
    assert gold is not None and wrong is not None and gate.isolated
    assert gate.judge(prompt(), gold).score == 1.0 and gate.judge(prompt(), wrong).score == 0.0
    with pytest.raises(ConfigError, match="is not a reward of one response"):
        build(Part, {**GATE, "verifier": {"_target_": "raylign.objectives.advantage.group.GRPO"}}, "rewards.correct.fn")


def test_every_reward_can_be_recomputed_from_the_logged_rows() -> None:
    """Experiment E: RTC, LEN, C, mu, sd, tier, f_R, f_L, r of the row alone."""
    shaped = shape(shaper(), [group(ROWS)])[0]
    logged = [dict(t.metrics) for t in shaped.trajectories]
    pool = [row for row in logged if row["arlcp/pooled"]]
    assert len(pool) == 3
    for score, row in zip(shaped.scores, logged, strict=True):
        terms = {}
        for name in ("reflections", "length"):
            values = [other[f"arlcp/{name}"] for other in pool]
            mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
            assert row[f"arlcp/mean_{name}"] == pytest.approx(mean) and row[f"arlcp/std_{name}"] == pytest.approx(std)
            terms[name] = 1 / (1 + np.exp(-(row[f"arlcp/{name}"] - mean) / (std + 1e-6)))
        assert row["arlcp/f_reflection"] == pytest.approx(terms["reflections"])
        assert row["arlcp/f_length"] == pytest.approx(terms["length"])
        tier = (row["arlcp/reflections"] > 1) + (row["arlcp/reflections"] > 2)
        assert row["arlcp/tier"] == tier
        alpha = (0.05, 0.10, 0.15)[int(tier)]
        penalty = alpha * terms["reflections"] + (0.2 - alpha) * terms["length"]
        assert score == row["arlcp/reward"] == pytest.approx(row["arlcp/correct"] * (1 - penalty))
    assert [row["arlcp/reflections"] for row in logged] == [1, 4, 2, 0]
    assert [row["arlcp/length"] for row in logged] == [10, 40, 20, 15]


def test_an_evaluation_logs_what_training_would_and_scores_by_verdicts() -> None:
    trained = shaper()
    shaped = shape(trained, [group(ROWS)])[0]
    plain = replace(group(ROWS), scores=(1.0, 1.0, 0.0, 1.0))
    evaluated = logged(shaper(), [plain])[0]
    assert evaluated.scores == plain.scores != shaped.scores
    assert reward_metrics([evaluated]).items() >= {**evaluated.metrics, **shaped.metrics}.items()
    assert [t.metrics for t in evaluated.trajectories] == [t.metrics for t in shaped.trajectories]
    others = shape(trained, [group([("wait wait", 9, 1)])]) + logged(trained, [plain])
    assert others[1].trajectories[0].metrics == shaped.trajectories[0].metrics, "texts that were not scored last"


def test_step_metrics_are_split_by_verdict_and_tier() -> None:
    metrics = reward_metrics(
        shape(shaper(), [group(ROWS), group([("wait", 9, 1), ("oh", 7, 0)]), group([("so", 5, 0)])])
    )
    assert metrics["arlcp/correct"] == pytest.approx(4 / 7)
    assert metrics["arlcp/length_right"] == pytest.approx((10 + 40 + 15 + 9) / 4)
    assert metrics["arlcp/length_wrong"] == pytest.approx((20 + 7 + 5) / 3)
    assert metrics["arlcp/reflections_hard"] == 4 and metrics["arlcp/tier_hard"] == pytest.approx(1 / 7)
    assert metrics["arlcp/tier_easy"] + metrics["arlcp/tier_medium"] + metrics["arlcp/tier_hard"] == pytest.approx(1)
    assert metrics["arlcp/groups_none_correct"] == pytest.approx(1 / 3)
    assert metrics["arlcp/groups_one_correct"] == pytest.approx(1 / 3)
    assert metrics["reward/correct"] == pytest.approx(4 / 7), "accuracy, never the shaped score"
    assert "arlcp/truncated" in metrics


def test_a_task_without_reflections_is_told() -> None:
    silent = [group([("so", 9, 1), ("thus", 7, 1)]), group([("hence", 5, 0)])]
    step = reward_metrics(shape(shaper(), silent))
    assert step["unused/reflections"] == 1.0
    alarms = Alarms(compose(["recipe=grpo", "scale=tiny"]).config.alarms)
    (raised,) = [alarm for _ in range(3) for alarm in alarms.step(step)]
    assert raised.name == "unused_term" and "shaper.keywords" in raised.hint
    assert reward_metrics(shape(shaper(), [group(ROWS), *silent]))["unused/reflections"] == pytest.approx(2 / 3)
    for off in ({"split": "length"}, {"alpha": 0.0}):
        assert "unused/reflections" not in reward_metrics(shape(shaper(**off), silent))


def test_missing_verdicts_leave_the_statistics() -> None:
    plain = shape(shaper(), [group(ROWS)])[0]
    rows = [ROWS[0], ("wait wait wait wait", 9000, Missing(reason="timeout")), *ROWS[1:]]
    with_missing = shape(shaper(), [group(rows)])[0]
    assert with_missing.scores[1] is None and "arlcp/reward" not in with_missing.trajectories[1].metrics
    assert [score for score in with_missing.scores if score is not None] == list(plain.scores)
    assert len(rows_of([with_missing]).scores) == 4
    assert shape(shaper(), [group([("", 3, Missing(reason="died"))])])[0].scores == (None,)


def test_equal_prompts_of_one_batch_stay_two_groups() -> None:
    """The released code keys on the decoded prompt and would pool them."""
    first, second = group(ROWS[:2], id="a"), group([("wait", 500, 1), ("wait", 700, 1)], id="b")
    alone = [shape(shaper(), [one])[0].scores for one in (first, second)]
    assert [one.scores for one in shape(shaper(), [first, second])] == alone


def test_released_pool_needs_the_gates_details() -> None:
    with pytest.raises(RewardError, match="ThinkGate"):
        shape(shaper(pool="released"), [group(ROWS)])
    loose = Value(score=0.0, details={"ungated": 1.0, "format": 0.0})
    right = Value(score=1.0, details={"ungated": 1.0, "format": 1.0})
    shaped = shape(shaper(pool="released"), [group([("wait", 10, right), ("oh", 30, loose)])])[0]
    assert shaped.trajectories[0].metrics["arlcp/mean_length"] == 20
    assert shaped.scores[1] == 0 and shaped.trajectories[1].metrics["arlcp/format_failure"] == 1


def test_which_reward_tells_correctness() -> None:
    weights = {"correct": 1.0, "style": 0.5, "logged": 0.0}
    with pytest.raises(ConfigError, match="not clear: correct, style"):
        build(Part, SHAPER, "shaper", weights=weights, max_tokens=8)
    assert build(Part, SHAPER | {"reward": "correct"}, "shaper", weights=weights, max_tokens=8).reward == "correct"
    with pytest.raises(ConfigError, match="no reward of this run"):
        build(Part, SHAPER | {"reward": "corect"}, "shaper", weights=weights, max_tokens=8)


def test_toy_rows_and_their_reward() -> None:
    rows = list(ToyTraces(ToyTraces.Config()).rows(300, seed=1))
    reward = ToyThought(ToyThought.Config())
    verdicts = []
    for row in rows[:60]:
        asked = prompt(row.answer, meta=row.meta)
        assert row.target is not None
        verdicts.append(reward.judge(asked, row.target).score)
        gold = reward.gold(asked)
        assert gold is not None and reward.judge(asked, gold).score == 1.0
        short = gold.replace("~", "-", 1)
        assert reward.judge(asked, short).score == 0.0, "one thought too few"
    assert np.mean(verdicts) == 1.0
    excess = [shaper(keywords=["~"]).count(str(row.target)) - row.meta["need"] for row in rows]
    assert 7 < np.mean(excess) < 9
    assert [row.target for row in ToyTraces(ToyTraces.Config()).rows(300, seed=1)] == [row.target for row in rows]


@pytest.mark.parametrize("recipe", ["grpo", "composition_rl"])
def test_the_shaper_composes_into_other_recipes_by_overrides_alone(recipe: str) -> None:
    if recipe not in recipes():
        pytest.skip(f"recipe {recipe} is not installed")
    target = "shaper={_target_: raylign.recipes.arlcp.ReflectionPenalty, n_1: 6, n_2: 12}"
    config = compose([f"recipe={recipe}", "scale=tiny", target]).config
    weights = {name: reward.weight for name, reward in config.rewards.items()}
    made = build(Part, config.shaper, "shaper", weights=weights, max_tokens=64)
    assert isinstance(made, ReflectionPenalty) and made.config.n_2 == 12


def test_the_recipes_own_numbers_are_the_papers() -> None:
    config = layered(["recipe=arlcp", "scale=gpu"]).config
    rl = config.stages["rl"]
    assert (rl["steps"], rl["prompts_per_step"], rl["group_size"], rl["eval_every"]) == (310, 128, 16, 20)
    optim = config.learner.optim
    assert (optim.lr, optim.weight_decay, optim.max_grad_norm, optim.warmup_steps) == (2e-6, 0.01, 1.0, 0)
    assert optim.schedule is Schedule.constant
    sampling = config.rollout.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (16384, 1.0, 1.0)
    after = part_config(config.stages["after"], "stages.after")[1]
    stage = part_config(rl, "stages.rl")[1]
    assert (after.sampling.temperature, after.sampling.top_p, after.samples, after.greedy) == (0.6, 0.95, 16, False)
    assert stage.eval_samples == 16 and stage.eval_sampling == after.sampling
    assert config.data.max_prompt_tokens == 1024
    assert config.advantage["kl_coef"] == 0.001 and config.advantage["_target_"].endswith(".RLOO")
    assert config.advantage["kl_estimator"] == "k1"
    objective = part_config(config.objective, "objective")[1]
    assert (objective.clip_low, objective.clip_high, objective.dual_clip) == (0.2, 0.2, 3.0)
    assert (objective.aggregation, objective.kl_coef, objective.entropy_coef) == (Aggregation.token, 0, 0)
    assert (stage.minibatches, stage.epochs) == (1, 1), "one update a step: strictly on-policy"
    shaper_config = build(Part, config.shaper, "shaper", weights={"correct": 1}, max_tokens=1).config
    assert (shaper_config.alpha, shaper_config.n_1, shaper_config.n_2) == (0.2, 40, 80)


def test_a_stage_may_bring_its_own_shaper() -> None:
    target = "raylign.recipes.arlcp.ReflectionPenalty"
    stage = f"stages.plain={{_target_: raylign.recipes.stages.rl.Rl, shaper: {{_target_: {target}, alpha: 0}}}}"
    run = compose(["recipe=arlcp", "scale=tiny", stage])
    assert run.part("shaper", "plain").config.alpha == 0
    _, problems = compose_with_problems(["recipe=arlcp", "scale=tiny", stage.replace("alpha: 0", "alpha: 2")])
    assert [problem.key for problem in problems] == ["stages.plain.shaper.alpha"]


@pytest.mark.parametrize("settings", [{"needs": []}, {"needs": [-1]}, {"spread": -1.0}, {"filler": 1.5}])
def test_traces_that_cannot_be_drawn_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ToyTraces.Config(**settings)
