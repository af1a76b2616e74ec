"""Parsing of behaviours, the pattern table, what is injected and how, and what is refused; no engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from raylign.actors.reward.response import trajectory_of
from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose, recipes
from raylign.contracts import Completion, PlacedRow, RolloutTask, Sampling
from raylign.errors import ConfigError, DataError, RequestError
from raylign.plan import make_plan
from raylign.recipes.inject_rbp.behaviours import BehaviourParser, Prefer, Separator, checked_chain
from raylign.recipes.inject_rbp.injectant import INJECTANT, text_of
from raylign.recipes.inject_rbp.injection import Inject
from raylign.recipes.inject_rbp.inline import Inline
from raylign.recipes.inject_rbp.measures import Compliance
from raylign.recipes.inject_rbp.patterns import ADMISSIBLE, GRAMS, counts_of, frequencies
from raylign.recipes.inject_rbp.table import PatternTable
from raylign.recipes.inject_rbp.toy import LETTERS, Sum, SumReward, Sums, asked, habit, plan_block, trace
from raylign.records import Prompt, StopReason
from raylign.testing import group, prompt, trajectory

BOX = r"\boxed{5}"


def parser(**settings: Any) -> BehaviourParser:
    return BehaviourParser(BehaviourParser.Config(**settings))


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(AutoTokenizer.from_pretrained(tiny_model))


# ------------------------------------------------------------------------------------------------------- behaviours


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("Okay, so we need the sum.\n\nFirst, add 2 and 3.\n\nNow double it.\n\nWait, is that right?", "OPPV"),
        ("The sum.\n\nAdd.\n\n\n \n\nAlternatively, count up.\n\nSo far, 5.\n\n**The answer is 5.**", "OPESC"),
        ("One paragraph\nof two lines", "O"),
        ("", ""),
        ("<think>\nOkay, a.\n\nHmm, b.\n</think>\n\nFinal answer: 5", "OEC"),
        ("Okay.\r\n\r\nNext, b.\r\n\r\nLet me check b.", "OPV"),
        (f"a\n\nWe carry on and get in the end {BOX}.", "OC"),  # the last paragraph, by its box
        (f"a\n\nWe carry on and get in the end {BOX}.\n\nDone", "OPP"),  # which has to be the last
        ("a\n\nb\n\nThe sum of them all is 5", "OPP"),  # no box: a number is no conclusion
        ("a\n\nLet\u2019s check.\n\nVerification: 5 = 5", "OVV"),
        ("a\n\nThe waiter nowhere thenceforth", "OP"),  # parts of words are no markers
        ("a\n\nIt is a long way until we wait", "OP"),  # the seventh word
    ],
)
def test_paragraphs_are_named_by_their_first_words(text: str, chain: str) -> None:
    assert parser().chain(text) == chain


def test_of_several_markers_the_longest_or_the_first_in_order_counts() -> None:
    text = "x\n\nAlternatively, wait a bit\n\nNow let me check"
    assert parser().chain(text) == "OEV" and parser(prefer=Prefer.priority).chain(text) == "OVV"
    assert parser().chain("a\n\nOkay then now") == "OO", "of equally long ones the first of C, V, E, S, O, P"


def test_words_and_separator_can_be_ones_own() -> None:
    own = parser(separator=Separator.newline, lexicon={"P": ["p*"], "V": ["look again"], "O": []})
    assert own.chain("1Pqdcf\n2 LOOK  again\nokay") == "PVP"
    with pytest.raises(ValueError, match=r"'X' is no behaviour; choose from O, P, S, E, V, C"):
        parser(lexicon={"X": ["x"]})
    with pytest.raises(ValueError, match=r"lexicon.P holds an empty marker"):
        parser(lexicon={"P": ["*"]})


def test_a_strange_symbol_is_told_with_its_place() -> None:
    assert checked_chain("OPVC", "a:1") == "OPVC"
    with pytest.raises(DataError, match=r"a.jsonl:7: the chain 'OPXC' holds 'X', which is none of .*; fix: "):
        checked_chain("OPXC", "a.jsonl:7")


# ------------------------------------------------------------------------------------------------------------ table


def rows(chains: list[tuple[str, str, float | None]], questions: int = 4) -> list[PlacedRow]:
    """(family, chain, score) of rows that ask a few questions in turn."""
    return [
        PlacedRow(f"h:{n}", {"chain": chain, "score": score, "family": family, "question": f"q{n % questions}"})
        for n, (family, chain, score) in enumerate(chains)
    ]


COLUMNS = {"chain": "chain", "score": "score", "by": "family", "question": "question", "permutations": 99}
HISTORY: list[tuple[str, str, float | None]] = [
    *[("a", "OPVC", 1.0)] * 12,
    *[("a", "OPPC", 0.0)] * 12,
    *[("b", "OEPC", 1.0)] * 8,
    *[("b", "OPVC", 0.0)] * 8,
    *[("c", "SSS", 0.0)] * 3,
    ("a", "OPVC", None),
]


def table(history: list[tuple[str, str, float | None]] = HISTORY, **settings: Any) -> PatternTable:
    made = PatternTable(PatternTable.Config(**{**COLUMNS, **settings}))
    made.fit(rows(history), seed=1)
    return made


def test_what_is_said_of_a_history() -> None:
    made = PatternTable(PatternTable.Config(**COLUMNS))  # type: ignore[arg-type]
    metrics = made.fit(rows(HISTORY), seed=1)
    assert (metrics["traces"], metrics["unscored"]) == (43, 1), "absent is not zero"
    assert (metrics["families"], metrics["families_without_right"]) == (3, 1)
    assert metrics["right"] == pytest.approx(20 / 43) and metrics["right/a"] == 0.5 and metrics["right/c"] == 0
    assert metrics["structured"] == 1 and metrics["concluded/c"] == 0 and metrics["longest"] == 4
    assert metrics["js/outcome"] > 0 and metrics["p/outcome"] == pytest.approx(0.01)
    assert {"p_within_question/outcome", "js/families/a", "p/families/a", "entropy", "entropy/a", "backed_off"} <= set(
        metrics
    )
    assert "entropy/c" not in metrics and made.of_question("c") is made.of_question("never seen") is made.whole
    assert made.of_question("a").right == ("OPVC",) * 12


def test_a_table_comes_back_with_its_settings(tmp_path: Path) -> None:
    made = table(values="fqi", gamma=0.9)
    made.save(tmp_path)
    again = PatternTable.of(tmp_path)
    assert again.config.gamma == 0.9 and again.traces == made.traces
    np.testing.assert_array_equal(again.whole.values.q, made.whole.values.q)
    with pytest.raises(DataError, match=r"was fitted with gamma=0.9, now 0.98; fix: "):
        PatternTable(PatternTable.Config(**{**COLUMNS, "values": made.config.values})).load(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="holds no pattern table"):
        PatternTable.of(tmp_path / "nowhere")
    more = PatternTable(PatternTable.Config(**{**COLUMNS, "after": str(tmp_path)}))  # type: ignore[arg-type]
    assert more.fit(rows([("a", "OPVPVC", 1.0)]), seed=1)["traces"] == 44


@pytest.mark.parametrize(
    ("row", "settings", "message"),
    [
        ({"score": "yes"}, {}, "h:0: score is no number, but 'yes'"),
        ({"chain": "OPXC"}, {}, r"h:0: the chain 'OPXC' holds 'X'"),
        ({"chain": None}, {}, "h:0: no text at chain, but 'None'"),
        ({"family": 3}, {}, "h:0: family is no text, but '3'; fix: set `by`"),
        ({"question": None}, {}, "h:0: no question at question, but 'None'; fix: set `question`"),
        ({"score": 0.0}, {}, r"none of 1 traces is right \(score >= 0.5\).*fix: easier questions"),
        ({"score": None}, {}, "none of 1 rows has a score at score; fix: set `score`"),
        ({"chain": "OC"}, {}, "none of 1 traces has 3 paragraphs; fix: set behaviours.separator=newline"),
        ({"text": 5}, {"chain": "", "text": "text"}, "h:0: no text at text, but '5'; fix: set `text`"),
    ],
)
def test_a_history_that_teaches_nothing_is_refused(row: Any, settings: Any, message: str) -> None:
    columns = {"chain": "OPVC", "score": 1.0, "family": "a", "question": "q", **row}
    with pytest.raises(DataError, match=message):
        PatternTable(PatternTable.Config(**{**COLUMNS, **settings})).fit([PlacedRow("h:0", columns)], seed=1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"gamma": 0.0}, "gamma=0.0: set it above 0 and to at most 1"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"tau": 0.0}, "tau is 0.0, set it above 0"),
        ({"kappa": -1.0}, "kappa is -1.0, set it to 0 or more"),
        ({"permutations": 0}, "permutations is 0"),
    ],
)
def test_impossible_settings_of_a_table(setting: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatternTable.Config(**setting)


def test_real_solutions(shared_data: Callable[[str], Path]) -> None:
    """Test D of the digest on 660 questions of GSM8K, answered by four models."""
    lines = [json.loads(line) for line in shared_data("gsm8k/model_solutions.jsonl").read_text().splitlines()]
    models = [name for name in lines[0] if isinstance(lines[0][name], dict)]
    answers = [
        PlacedRow(f"{row}:{model}", {**line[model], "question": line["question"], "model": model})
        for row, line in enumerate(lines)
        for model in models
    ]
    assert len(models) == 4 and len(answers) == 2640
    settings = {"text": "solution", "score": "is_correct", "by": "model", "question": "question", "permutations": 199}
    blank = PatternTable(PatternTable.Config(**settings))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"none of 2640 traces has 3 paragraphs; fix: .*separator=newline"):
        blank.fit(answers, seed=1)
    behaviours = {
        "_target_": "raylign.recipes.inject_rbp.BehaviourParser",
        "separator": "newline",
        "lexicon": {"C": ["a:"]},
    }
    made = PatternTable(PatternTable.Config(**settings, behaviours=behaviours))  # type: ignore[arg-type]
    metrics = made.fit(answers, seed=1)
    chains = [trace.chain for trace in made.traces]
    assert frequencies(chains).sum() == sum(max(0, len(chain) - 2) for chain in chains) > 4000
    assert counts_of(chains).sum() == frequencies(chains).sum()
    assert metrics["structured"] > 0.7 and metrics["concluded"] > 0.95
    assert metrics["js/outcome"] > 0 and metrics["p/outcome"] < 0.05
    assert all(0 < metrics[f"p/families/{model}"] <= 1 for model in models)


# -------------------------------------------------------------------------------------------------------- injection


@pytest.fixture
def store(tmp_path: Path) -> str:
    folder = tmp_path / "store"
    folder.mkdir()
    table().save(folder)
    return str(folder)


def seen(template: ChatTemplate, store: str, domain: str = "a", seed: int = 7, **settings: Any) -> Prompt:
    view = Inject(Inject.Config(store=store, **settings), tokenizer=template, seed=seed)
    (shown,) = view.prompts([prompt(1, "How much?", domain=domain)])
    return shown


def test_patterns_stand_before_the_question(template: ChatTemplate, store: str) -> None:
    shown = seen(template, store)
    assert shown.id == "p1", "the same seeds as without"
    text = shown.messages[-1]["content"]
    assert text.endswith("\n\nHow much?") and "Objective - Progression - Verification (50%)" in text
    assert "Verification (checks a step)" in text
    assert shown.token_ids.tolist() == template.prompt_ids(shown.messages)
    assert shown.meta[INJECTANT] == {
        "arm": "correct",
        "family": "a",
        "pooled": False,
        "patterns": {"OPV": 0.5, "PVC": 0.5},
        "chain": "",
    }


def test_a_chain_in_order_and_in_a_form_of_ones_own(template: ChatTemplate, store: str) -> None:
    shown = seen(template, store, form="chain")
    assert "1. Objective, 2. Progression, 3. Verification, 4. Conclusion.\n\nHow much?" in shown.messages[-1]["content"]
    own = seen(template, store, form="chain", block="{chain}|", step="{number}{letter}", between="")
    assert own.messages[-1]["content"] == "1O2P3V4C|How much?"
    beside = seen(template, store, form="chain", shown=False)
    assert beside.messages[-1]["content"] == "How much?" and beside.meta[INJECTANT]["chain"] == "OPVC"
    assert beside.token_ids.tolist() == prompt(1).token_ids.tolist()


def test_every_arm_injects_its_own(template: ChatTemplate, store: str) -> None:
    def patterns(arm: str, **settings: Any) -> dict[str, float]:
        made: dict[str, float] = seen(template, store, arm=arm, **settings).meta[INJECTANT]["patterns"]
        return made

    assert set(patterns("correct")) == {"OPV", "PVC"} and set(patterns("incorrect")) == {"OPP", "PPC"}
    assert set(patterns("cross_family")) == {"OEP", "EPC"} and set(patterns("correct", domain="b")) == {"OEP", "EPC"}
    assert "PVC" in patterns("rlopt") and patterns("rlopt")["PVC"] > patterns("rlopt").get("PPC", 0)
    random = patterns("random", top=150)
    assert set(random) == set(ADMISSIBLE) and len(ADMISSIBLE) == 150 and len(GRAMS) == 216
    assert all("C" not in gram[:2] for gram in random)
    assert seen(template, store, arm="random").meta == seen(template, store, arm="random").meta
    assert seen(template, store, arm="random").meta != seen(template, store, arm="random", seed=8).meta
    pooled = seen(template, store, domain="c").meta[INJECTANT]
    assert pooled["family"] == "" and pooled["pooled"], "no right answer: all families together"
    assert {"OEP", "PVC"} <= set(pooled["patterns"])


def test_an_arm_without_anything_to_inject_is_refused(template: ChatTemplate, tmp_path: Path) -> None:
    table([("a", "OPVC", 1.0)] * 3).save(tmp_path)
    messages = {"incorrect": "no trace of family a has", "cross_family": "no right trace of another family"}
    for arm, message in messages.items():
        for form in ("patterns", "chain"):
            with pytest.raises(DataError, match=rf"arm={arm}: .*{message}.*fix: "):
                seen(template, str(tmp_path), arm=arm, form=form)


def test_a_question_of_the_history_is_refused_in_any_form(template: ChatTemplate, store: str) -> None:
    view = Inject(Inject.Config(store=store), tokenizer=template, seed=7)
    bare = prompt(3, "q2", place="test.jsonl:4")
    dressed = replace(prompt(4, "Please: q2 !"), meta={"question": "q2", "other": 1}, place="test.jsonl:5")
    with pytest.raises(DataError, match=r"2 of 3 questions are in the history .*the first: test.jsonl:4.*fix: other"):
        view.prompts([prompt(1, "new"), bare, dressed])
    allowed = Inject(Inject.Config(store=store, history_questions=True), tokenizer=template, seed=7)
    assert len(allowed.prompts([bare, dressed])) == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"top": 0}, "top is 0, set it to 1 or more"),
        ({"chains": 0}, "chains is 0"),
        ({"block": "{pattern}"}, r"block='\{pattern\}' cannot be filled .*its fields: behaviours, patterns, chain"),
        ({"block": "Follow {chain}"}, r"block has no \{patterns\}, so that nothing would be injected"),
        ({"step": "{symbol}"}, "step=.* cannot be filled"),
    ],
)
def test_impossible_settings_of_a_view(setting: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inject.Config(**setting)


# ----------------------------------------------------------------------------------------------------------- inline


class Scripted:
    """A policy that says the next of some texts, and keeps what it was asked."""

    max_context = 200

    def __init__(self, template: ChatTemplate, *texts: str) -> None:
        self.template, self.tokenizer, self.texts = template, template.tokenizer, list(texts)
        self.asked: list[tuple[str, Sampling, int]] = []

    async def generate(self, token_ids: Any, sampling: Sampling, seed: int) -> Completion:
        self.asked.append((self.template.text_of(token_ids), sampling, seed))
        text = self.texts.pop(0)
        ends = any(text.endswith(stop) for stop in sampling.stop)
        ids = self.template.codec.encode(text) + ([] if ends else [self.tokenizer.eos_token_id])
        return Completion(
            token_ids=np.array(ids, np.int32),
            logprobs=np.zeros(len(ids), np.float32),
            versions=np.zeros(len(ids), np.int32),
            stop=StopReason.STOP if ends else StopReason.EOS,
            text=text,
        )


def follow(policy: Scripted, chain: str, max_tokens: int = 100, **settings: Any) -> Any:
    ids = np.array(policy.template.prompt_ids([{"role": "user", "content": "q"}]), np.int32)
    asked_for = replace(prompt(1, "q"), token_ids=ids, meta={INJECTANT: {"chain": chain}})
    task = RolloutTask(prompt=asked_for, n=1, sampling=Sampling(max_tokens=max_tokens), run_seed=3)

    async def run() -> list[Any]:
        return [made async for made in Inline(Inline.Config(**settings)).run(task, policy)]

    (made,) = asyncio.run(run())
    return made


def test_each_paragraph_begins_with_the_planned_words(template: ChatTemplate) -> None:
    policy = Scripted(template, " 2 + 3.\n\n", " it is 5.\n\n", " 5.\n\nDone.")
    made = follow(policy, "PVC")
    assert text_of(made) == "Next, 2 + 3.\n\nLet me check: it is 5.\n\nThe final answer is 5.\n\nDone."
    assert parser().chain(text_of(made)) == "PVCP"
    assert [
        text.rpartition("q")[2].endswith(words)
        for (text, _, _), words in zip(policy.asked, ("Next,", "Let me check:", "The final answer is"), strict=True)
    ] == [True] * 3
    assert [sampling.stop for _, sampling, _ in policy.asked] == [("\n\n",), ("\n\n",), ()]
    assert len({seed for _, _, seed in policy.asked}) == 3 and made.stop is StopReason.EOS
    markers = ["Next,", "Let me check:", "The final answer is"]
    assert [template.text_of(call.context_ids) for call in made.calls] == markers
    forced = sum(len(call.context_ids) for call in made.calls)
    assert made.metrics == {"inline/markers": forced, "inline/steps": 3}
    assert made.response_length == sum(len(call.token_ids) for call in made.calls)
    spent = [sampling.max_tokens for _, sampling, _ in policy.asked]
    assert spent[0] == 100 - len("Next,") and spent == sorted(spent, reverse=True), "markers use up room, too"


def test_an_answer_that_ends_early_or_runs_out_of_room_stays_as_it_is(template: ChatTemplate) -> None:
    made = follow(Scripted(template, " that is all."), "PVC")
    assert text_of(made) == "Next, that is all." and made.stop is StopReason.EOS and len(made.calls) == 1
    made = follow(Scripted(template, " 2 + 3.\n\n"), "PVC", max_tokens=20)
    assert len(made.calls) == 1 and made.stop is StopReason.LENGTH


def test_a_prompt_without_a_plan_is_refused(template: ChatTemplate) -> None:
    with pytest.raises(RequestError, match="p1 brings no chain to follow; fix: give the stage view="):
        follow(Scripted(template), "")
    with pytest.raises(ValueError, match="markers: 'X' is no behaviour"):
        Inline.Config(markers={"X": "x"})
    with pytest.raises(ValueError, match="separator is empty"):
        Inline.Config(separator="")


# --------------------------------------------------------------------------------------------------------- measures


def answered(number: int, texts: list[str], scores: list[float | None], **injectant: Any) -> Any:
    plain = {"arm": "correct", "family": "a", "pooled": False, "patterns": {}, "chain": ""}
    meta = {INJECTANT: {**plain, **injectant}} if injectant else {}
    return group(*(trajectory(text) for text in texts), scores=scores, prompt=prompt(number, domain="a", meta=meta))


def test_compliance_by_hand() -> None:
    measure = Compliance(Compliance.Config())
    followed = "Okay\n\nNext\n\nWait\n\nThe answer is 5"  # OPVC
    other = "Okay\n\nNext\n\nNext\n\nThe answer is 5"  # OPPC
    groups = [
        answered(1, [followed, other], [1.0, 0.0], patterns={"OPV": 0.75, "PVC": 0.25}),
        answered(2, [followed], [None], patterns={"OPV": 0.25, "PVC": 0.75}),
    ]
    metrics = measure.metrics(groups)
    # injected: OPV 1/2, PVC 1/2; produced: OPV 2/6, PVC 2/6, OPP 1/6, PPC 1/6
    assert metrics["l1"] == pytest.approx(2 * (1 / 2 - 1 / 3) + 2 / 6)
    assert metrics["chain_length"] == 4 and metrics["structured"] == metrics["concluded"] == 1
    assert metrics["pooled"] == 0 and "followed" not in metrics and metrics["tokens"] > 10
    planned = measure.metrics([answered(1, [followed, other], [1.0, 0.0], chain="OPVC")])
    assert planned["followed"] == pytest.approx((1 + 3 / 4) / 2)
    assert measure.metrics([answered(1, [""], [0.0])])["chain_length"] == 0
    assert "l1" not in measure.metrics([answered(1, ["Okay"], [0.0], chain="OPVC")]), "no pattern is no distance"
    assert measure.metrics([]) == {}


def test_the_gain_is_over_the_same_questions(tmp_path: Path) -> None:
    plain = Compliance(Compliance.Config())
    before = [answered(n, ["Okay"], [float(n % 2), 0.0]) for n in range(8)]
    path = tmp_path / "none.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in plain.table(before)))
    after = [answered(n, ["Okay"], [1.0, None if n == 3 else 0.0]) for n in range(1, 9)]
    metrics = Compliance(Compliance.Config(against=str(path), resamples=200)).metrics(after)
    assert metrics["paired"] == pytest.approx(7 / 9)
    expected = [(1.0 if n == 3 else 0.5) - (0.5 if n % 2 else 0.0) for n in range(1, 8)]
    assert metrics["gain"] == pytest.approx(np.mean(expected))
    assert metrics["gain_low"] <= metrics["gain"] <= metrics["gain_high"]


# ------------------------------------------------------------------------------------------------------ whole runs

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
        for name, chain in (("habit", habit(family, rng)), ("OPVPVC", "OPVPVC"), ("OEPPC", "OEPPC"), ("OPPC", "OPPC")):
            text = trace(family, summands, chain, rng)
            assert own.chain(text) == chain and len(chain) <= 9
            (verdict,) = reward.score(judged, [trajectory_of(judged, text)])
            right.setdefault(f"{family}/{name}", []).append(verdict.score)
        gold, wrong = reward.gold(judged), reward.wrong(judged)
        assert gold and wrong and reward.judge(judged, gold).score == 1 and reward.judge(judged, wrong).score == 0
    mean = {name: float(np.mean(scores)) for name, scores in right.items()}
    assert mean["slips/OPVPVC"] == mean["detours/OEPPC"] == 1
    assert mean["slips/OPPC"] == pytest.approx(0.7**2 + 0.3**2 / 7, abs=0.06) and mean["detours/OPVPVC"] < 0.2
    assert 0.1 < mean["slips/habit"] < 0.3 and 0.08 < mean["detours/habit"] < 0.3
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
    assert under_way.paragraph("V", rng) == "Vqdcf" and under_way.total == 5
    under_way.total = 0
    under_way.paragraph("S", rng)
    assert under_way.paragraph("V", rng) == "Vqa" and under_way.total == 0
