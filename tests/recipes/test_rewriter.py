"""The rewriter's reward on groups of rewrites: what is scored, who is compared, and what has no score at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rewriter_cases import HERE, LOSSES, SOLUTION, Base, problem, reward, rewrites, rewriting, vector_of

from raylign.actors.reward.outcome import Failed
from raylign.actors.reward.worker import RewardWorker
from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose, compose_with_problems
from raylign.errors import ConfigError, JudgeUnavailable, RewardError
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.checks import check
from raylign.recipes.rewriter import Gate, RewriteReward, YesNo
from raylign.recipes.rewriter.shaper import rewriting_metrics
from raylign.recipes.rewriter.terms import diversity, likeness
from raylign.records import Group, Prompt, Value
from raylign.testing import call, records, trajectory

TEXTS = ("a", "b", "c", "d")
TINY = ["recipe=rewriter", "scale=tiny"]
ASKING = ("warm", "rewrite", "build")  # stages of scale=tiny that ask for rewrites
BEFORE = "stages.general.measures.forgetting.before"


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


@pytest.fixture
def asked(template: ChatTemplate) -> Prompt:
    """The rewriting prompt of a problem."""
    bare = problem()
    ids = np.asarray(template.prompt_ids(bare.messages), np.int32)
    return rewriting(template).prompts([problem(token_ids=ids)])[0]


@pytest.fixture(autouse=True)
def nothing_heard() -> None:
    Base.heard.clear()


def scores(values: list[Value]) -> list[float]:
    return [value.score for value in values]


# ------------------------------------------------------------------------------------------------------ what is scored


def test_the_base_model_scores_the_very_ids_that_were_sampled_after_the_bare_question(
    asked: Prompt, template: ChatTemplate
) -> None:
    """Not the text spelled anew, and not after the rewriting instruction."""
    samples = [records.trajectory(records.call(text, [number, 99, 98, 97, 2])) for number, text in enumerate(TEXTS)]
    reward(TEXTS).score(asked, samples)
    bare = template.prompt_ids(({"role": "user", "content": "2+2?"},))
    assert len(asked.token_ids) > len(bare) + 50
    assert all(before == bare for before, _ in Base.heard)
    expert = template.answer_ids(({"role": "user", "content": "2+2?"},), {"role": "assistant", "content": SOLUTION})
    assert sorted(ids for _, ids in Base.heard) == sorted([*([n, 99, 98, 97, 2] for n in range(4)), expert])


def test_without_a_rewriting_prompt_the_prompt_itself_is_the_question() -> None:
    reward(TEXTS).score(problem(), rewrites(*TEXTS))
    assert {tuple(before) for before, _ in Base.heard} == {tuple(problem().token_ids.tolist())}


def test_only_what_passes_is_compared() -> None:
    values = reward(("a", "b", "d")).score(problem(), rewrites(*TEXTS))
    assert sorted(ids[0] for _, ids in Base.heard) == [0, 1, 3]
    losses, vectors = [LOSSES[n] for n in (0, 1, 3)], np.array([vector_of(text) for text in "abd"])
    expected = 1 + 0.35 * likeness(losses) + 0.5 * diversity(vectors)
    np.testing.assert_allclose([values[n].score for n in (0, 1, 3)], expected, atol=1e-6)
    assert values[2].score == 0.0 and values[2].details["paid"] == {"gate": 0, "distribution": 0, "diversity": 0}


def test_the_soft_gate_compares_everybody() -> None:
    values = reward(("a",), soft_gate=0.1).score(problem(), rewrites(*TEXTS))
    vectors = np.array([vector_of(text) for text in TEXTS])
    expected = 0.1 * np.array([1.0, 0, 0, 0]) + 0.35 * likeness(LOSSES) + 0.5 * diversity(vectors)
    np.testing.assert_allclose(scores(values), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "left"), [({"distribution": 0.0}, "diversity"), ({"diversity": 0.0}, "distribution")]
)
def test_a_term_of_weight_0_is_logged_and_not_paid(settings: dict[str, float], left: str) -> None:
    for value in reward(TEXTS, **settings).score(problem(), rewrites(*TEXTS)):
        weight = 0.35 if left == "distribution" else 0.5
        assert value.score == pytest.approx(1 + weight * value.details[left])
        assert value.details["distribution"] > 0


def test_an_order_of_samples_is_an_order_of_rewards() -> None:
    first = reward(("a", "c", "d")).score(problem(), rewrites(*TEXTS))
    samples = rewrites(*TEXTS)
    order = [2, 0, 3, 1]
    moved = reward(("a", "c", "d")).score(problem(), [samples[n] for n in order])
    np.testing.assert_allclose(scores(moved), [first[n].score for n in order], atol=1e-9)


# -------------------------------------------------------------------------------------------------- what has no score


def test_a_sample_alone_is_refused_and_never_paid_a_constant() -> None:
    """The published code's loop hands over one sample at a time, for which it pays 0 or 1.175."""
    with pytest.raises(ValueError, match="alone is no group"):
        reward(TEXTS).score(problem(), rewrites("a"))
    outcome = _by_worker(("a",))
    assert isinstance(outcome, Failed) and "alone is no group" in outcome.reason


def _by_worker(texts: tuple[str, ...], **base: Any) -> Any:
    node = {
        "_target_": "raylign.recipes.rewriter.RewriteReward",
        "gate": {"_target_": f"{HERE}.Passes", "texts": list(TEXTS)},
        "base": {"_target_": f"{HERE}.Base", **base},
        "embedder": {"_target_": f"{HERE}.Vectors"},
    }
    (outcome,), _ = RewardWorker(node, "rewards.rewrite.fn", 5.0, "").score([(problem(), tuple(rewrites(*texts)))])
    return outcome


def test_without_the_base_model_a_group_is_missing_and_not_zero() -> None:
    with pytest.raises(JudgeUnavailable, match="gone"):
        reward(TEXTS, base_gone=True).score(problem(), rewrites(*TEXTS))
    assert isinstance(_by_worker(TEXTS, gone=True), Failed) and not isinstance(_by_worker(TEXTS), Failed)


def test_without_the_embedder_a_group_is_missing() -> None:
    with pytest.raises(JudgeUnavailable, match="embedder"):
        reward(TEXTS, embedder={"gone": True}).score(problem(), rewrites(*TEXTS))


def test_without_the_gates_verdict_a_group_is_missing() -> None:
    broken = RewriteReward.Config(
        gate={"_target_": f"{HERE}.Passes", "broken": True},
        base={"_target_": f"{HERE}.Base"},
        embedder={"_target_": f"{HERE}.Vectors"},
    )
    with pytest.raises(ValueError, match="no verdict"):
        RewriteReward(broken).score(problem(), rewrites(*TEXTS))


@pytest.mark.parametrize(
    "sample", [records.trajectory("a", "b"), records.trajectory(records.call("a", [])), records.trajectory()]
)
def test_samples_without_ids_of_one_call_are_refused(sample: Any) -> None:
    with pytest.raises(ValueError, match="cannot be scored"):
        reward(TEXTS).score(problem(), [*rewrites("a"), sample])


@pytest.mark.parametrize("bad", ["base_nan", "base_infinite"])
def test_a_loss_that_is_not_finite_is_paid_no_bonus_for_it_and_counted(bad: str) -> None:
    values = reward(TEXTS, **{bad: [1]}, diversity=0.0).score(problem(), rewrites(*TEXTS))  # type: ignore[arg-type]
    assert values[1].score == 1.0 and values[1].details["nll"] is None
    np.testing.assert_allclose([values[n].score for n in (0, 2, 3)], 1 + 0.35 * likeness([0.4, 0.1, 0.5]), atol=1e-6)
    assert values[0].details["group"]["not_finite"] == 1


def test_what_the_window_has_no_room_for_is_not_scored() -> None:
    question = len(problem().token_ids)
    reward(TEXTS, max_tokens=question + 2).score(problem(), rewrites(*TEXTS))
    assert {len(ids) for _, ids in Base.heard} == {2}
    full = reward(TEXTS, max_tokens=question).score(problem(), rewrites(*TEXTS))
    assert [value.details["distribution"] for value in full] == [0.0] * 4
    assert full[0].details["group"]["not_finite"] == 4


# ------------------------------------------------------------------------------------------------------------ the gate

NUMERIC = {"_target_": "raylign.actors.reward.numeric.NumericAnswer"}


def gate(yes: float, no: float, **settings: Any) -> Gate:
    base = {"_target_": f"{HERE}.Base", "losses": [-yes, -no], **settings}
    return Gate(Gate.Config(answers=NUMERIC, reasoning={"_target_": "raylign.recipes.rewriter.YesNo", "base": base}))


@pytest.mark.parametrize(("yes", "no", "accepted"), [(-1.0, -2.0, 1.0), (-1.5, -1.5, 1.0), (-2.0, -1.0, 0.0)])
def test_reasoning_is_accepted_where_yes_is_at_least_as_likely_as_no(yes: float, no: float, accepted: float) -> None:
    (value,) = gate(yes, no).score(problem(), rewrites("so 4"))
    assert value.score == accepted
    assert value.details == {"answer": 1.0, "reasoning": accepted, "yes": yes, "no": no}


def test_a_wrong_answer_is_not_asked_for_its_reasoning() -> None:
    values = gate(-1.0, -2.0).score(problem(), rewrites("so 5", "so 4", "nothing"))
    assert scores(values) == [0.0, 1.0, 0.0] and "reasoning" not in values[0].details
    assert len(Base.heard) == 2  # both words, once


def test_the_verifier_reads_the_bare_question_the_reference_and_the_candidate(asked: Prompt) -> None:
    gate(-1.0, -2.0).score(asked, rewrites("It is {4} 4"))
    text = Base.heard[0][0][0]["content"]
    assert "2+2?" in text and "It is {4} 4" in text and "\n4\n" in text and SOLUTION not in text


def test_a_gate_without_its_model_gives_no_verdict() -> None:
    with pytest.raises(JudgeUnavailable):
        gate(-1.0, -2.0, gone=True).score(problem(), rewrites("so 4"))


def test_words_of_several_tokens_give_no_verdict() -> None:
    with pytest.raises(RewardError, match="'NO' is 2 tokens"):
        gate(-1.0, -2.0, words={"YES": [0], "NO": [1, 2]}).score(problem(), rewrites("so 4"))


def test_without_a_check_of_reasoning_the_answer_decides() -> None:
    alone = Gate(Gate.Config(answers=NUMERIC))
    values = alone.score(problem(), rewrites("so 4", "so 5"))
    assert scores(values) == [1.0, 0.0] and alone.gold(problem()) == "#### 4"
    assert gate(0, 0).gold(problem()) is None and gate(0, 0).wrong(problem()) == "#### 5"


def test_a_word_that_is_not_one_token_is_refused_before_work_and_the_tokenizer_named() -> None:
    """The tiny tokenizer spells YES as three bytes, so that every rewrite would fail."""
    base = "{_target_: raylign.actors.judge.served.Served, name: base}"
    reasoning = f"rewards.gate.fn.reasoning={{_target_: raylign.recipes.rewriter.YesNo, base: {base}, no: N}}"
    with pytest.raises(ConfigError) as refused:
        check(compose([*TINY, reasoning]))
    assert {problem.key for problem in refused.value.problems} == {
        "rewards.gate.fn.reasoning.yes",
        "rewards.rewrite.fn.gate.reasoning.yes",
    }
    assert "is 3 tokens of the tokenizer of" in str(refused.value) and "tiny-" in str(refused.value)
    check(compose([*TINY, reasoning.replace("no: N", "no: N, yes: Y")]))


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        (["stages.rewrite.group_size=1"], "stages.rewrite.group_size"),
        (["stages.rewrite.eval_every=10"], "stages.rewrite.eval_samples"),
        (["stages.rewrite.eval_every=10", "stages.rewrite.eval_samples=4"], ""),
        (["stages.build.weights={rewrite: 1}"], "stages.build.samples"),
        (["judges.base.verbs=[embed]"], "judges.base.verbs"),
        (["judges.base.verbs=[score]"], "judges.base.verbs"),
        (["rewards.rewrite.fn.max_tokens=72"], "judges.base.max_context"),
        (["rewards.rewrite.fn.diversity=-1"], "rewards.rewrite.fn.diversity"),
        (["rewards.rewrite.fn.gate={}"], "rewards.rewrite.fn.gate"),
        (["rewards.rewrite.fn.soft_gate=0.1"], ""),
        (["rewards.gate.fn.reasoning={}"], ""),
        (["rewards.rewrite.fn.embedder={_target_: raylign.actors.embed.HashedNgrams}"], ""),
        ([f"{BEFORE}="], BEFORE),
        ([f"{BEFORE}=@general_before/none"], BEFORE),
        (["stages.rewrite.lora.rank=0", "stages.rewrite.lora.alpha=32"], "stages.rewrite.lora.rank"),
    ],
)
def test_settings_that_would_mean_nothing_are_refused(settings: list[str], wrong: str) -> None:
    _, problems = compose_with_problems([*TINY, *settings])
    assert {problem.key for problem in problems} == ({wrong} if wrong else set()), problems


@pytest.mark.parametrize("template", ["{question}", "{question}{solution}{hint}"])
def test_a_template_that_asks_nothing_is_refused_wherever_it_is_used(template: str) -> None:
    _, problems = compose_with_problems([*TINY, f"stages.rewrite.view.template='{template}'"])
    assert {problem.key for problem in problems} == {f"stages.{stage}.view.template" for stage in ASKING}


def test_the_rewriter_is_asked_in_every_stage_as_it_is_trained() -> None:
    for settings in (TINY, [*TINY, "stages.rewrite.view.template='{question}?{solution}'"]):
        run, problems = compose_with_problems(settings)
        templates = {run.parts[f"stages.{stage}.view"].config.template for stage in ASKING} if run else set()
        assert not problems and templates == {
            settings[-1].partition("=")[2].strip("'") if settings[2:] else "{question}{solution}"
        }
    run, _ = compose_with_problems(["recipe=rewriter", "scale=gpu", "stages.rewrite.view.max_tokens=900"])
    assert run and run.parts["stages.build.view"].config == run.parts["stages.rewrite.view"].config
    assert run.parts["stages.build.view"].config.max_tokens == 900


def test_the_papers_values_stand_at_scale_gpu() -> None:
    run, _ = compose_with_problems(["recipe=rewriter", "scale=gpu"])
    settings = {stage.name: stage.config for stage in run.stages}
    rl = settings["rewrite"]
    assert (rl.lora.rank, rl.lora.alpha, rl.prompts_per_step, rl.group_size, rl.minibatches) == (64, 32, 504, 10, 2)
    assert (rl.steps, run.config.learner.optim.lr, run.config.objective["kl_coef"]) == (200, 3e-6, 0.001)
    assert not settings["sft"].lora.rank and settings["sft"].data == "@build"
    terms = run.parts["rewards.rewrite.fn"].config
    assert (terms.distribution, terms.diversity, terms.max_tokens, terms.soft_gate) == (0.35, 0.5, 4096, None)


# ------------------------------------------------------------------------------------------------------------- figures


def rewarded(passing: tuple[str, ...], asked: Prompt, **settings: Any) -> Group:
    samples = rewrites(*TEXTS)
    values = reward(passing, **settings).score(asked, samples)
    judged = [records.trajectory(*t.calls, rewards={"rewrite": v}) for t, v in zip(samples, values, strict=True)]
    return records.group(*judged, prompt=asked)


def test_shares_of_the_variance_add_up_to_one() -> None:
    group = rewarded(("a", "b", "d"), problem())
    metrics = rewriting_metrics(group, ["other", "rewrite"])
    shares = [metrics[f"rewriter/share/{term}"] for term in ("gate", "distribution", "diversity")]
    assert sum(shares) == pytest.approx(1.0) and shares[0] > 0.5
    rewards = np.array([t.rewards["rewrite"].score for t in group.trajectories])  # type: ignore[union-attr]
    gate = np.array([1.0, 1, 0, 1])
    assert shares[0] == pytest.approx(np.cov(gate, rewards, ddof=0)[0, 1] / rewards.var())


def test_numbers_of_a_group(asked: Prompt) -> None:
    metrics = rewriting_metrics(rewarded(("a", "b"), asked), ["rewrite"])
    assert metrics["rewriter/passed"] == 0.5 and metrics["rewriter/m"] == 2 and metrics["rewriter/m_below_2"] == 0
    assert [metrics[f"rewriter/m/{number}"] for number in range(5)] == [0, 0, 1, 0, 0]
    assert metrics["rewriter/nll"] == pytest.approx(0.65) and metrics["rewriter/nll_expert"] == pytest.approx(0.7)
    assert metrics["rewriter/distribution"] == pytest.approx(likeness(LOSSES[:2]).mean())
    assert metrics["rewriter/distribution_std"] == pytest.approx(likeness(LOSSES[:2]).std())
    assert metrics["rewriter/diversity"] == metrics["rewriter/spread"] > 0 and metrics["rewriter/not_finite"] == 0


@pytest.mark.parametrize(("passing", "m"), [((), 0), (("c",), 1)])
def test_groups_without_a_comparison_are_told(passing: tuple[str, ...], m: int) -> None:
    metrics = rewriting_metrics(rewarded(passing, problem()), ["rewrite"])
    assert metrics["rewriter/m_below_2"] == 1 and metrics[f"rewriter/m/{m}"] == 1
    assert ("rewriter/nll" in metrics) == bool(m) and ("rewriter/share/gate" in metrics) == bool(m)


def test_a_group_that_was_not_judged_has_no_numbers() -> None:
    assert rewriting_metrics(records.group(records.trajectory("a")), ["rewrite"]) == {}


def test_the_reasoning_check_of_the_default_is_the_frozen_base() -> None:
    part = compose_with_problems(["recipe=rewriter", "scale=gpu"])[0].parts["rewards.rewrite.fn.gate.reasoning"]
    assert part.cls is YesNo and part.config.base["name"] == "base"


def test_the_reasoning_check_sees_no_thought() -> None:
    opened = replace(problem(), thinks=True)
    gate(-1.0, -2.0).score(opened, [trajectory(call("a draft</think>so 4")), trajectory(call("<think>x</think>so 4"))])
    shown = [messages[0]["content"] for messages, _ in Base.heard]
    assert all("so 4" in text and "draft" not in text and "think" not in text for text in shown)
