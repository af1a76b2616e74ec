"""What is injected and how: views, the strategy that writes markers, and what is measured of answers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inject_rbp_cases import parser, table
from transformers import AutoTokenizer

from raylign.chat.template import ChatTemplate
from raylign.contracts import Completion, RolloutTask, Sampling
from raylign.data.questions import question_of
from raylign.errors import DataError, RequestError
from raylign.recipes.inject_rbp.arms import Arm, Form
from raylign.recipes.inject_rbp.injectant import INJECTANT, text_of
from raylign.recipes.inject_rbp.injection import Inject
from raylign.recipes.inject_rbp.inline import Inline
from raylign.recipes.inject_rbp.measures import Compliance
from raylign.recipes.inject_rbp.patterns import ADMISSIBLE, GRAMS
from raylign.records import Prompt, StopReason
from raylign.testing import group, prompt, trajectory


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(AutoTokenizer.from_pretrained(tiny_model))


# -------------------------------------------------------------------------------------------------------- injection


@pytest.fixture
def store(tmp_path: Path) -> str:
    folder = tmp_path / "store"
    folder.mkdir()
    table().save(folder)
    return str(folder)


def seen(template: ChatTemplate, store: str, domain: str = "a", seed: int = 7, **settings: Any) -> Prompt:
    kinds: dict[str, Any] = {"arm": Arm, "form": Form}
    typed = {name: kinds[name](value) if name in kinds else value for name, value in settings.items()}
    view = Inject(Inject.Config(store=store, **typed), tokenizer=template, seed=seed)
    (shown,) = view.prompts([prompt(1, "How much?", domain=domain)])
    return shown


def test_patterns_stand_before_the_question(template: ChatTemplate, store: str) -> None:
    shown = seen(template, store)
    assert shown.id == "p1", "the same seeds as without"
    text = shown.messages[-1]["content"]
    assert question_of(shown) == "How much?", "for judges and strategies, which ask about the question itself"
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


def test_a_lucky_pattern_is_injected_by_the_naive_arm_alone(template: ChatTemplate, tmp_path: Path) -> None:
    sure, lucky = [("a", "OPVC", 1.0)] * 60 + [("a", "OPVC", 0.0)] * 40, [("a", "OESC", 1.0)]
    table([*sure, *lucky]).save(tmp_path)
    shown = {arm: seen(template, str(tmp_path), arm=arm).meta[INJECTANT]["patterns"] for arm in ("rlopt", "naive")}
    assert shown["naive"]["OES"] > 0.4 > 0.2 > shown["rlopt"].get("OES", 0), shown


def test_another_family_needs_a_right_trace(template: ChatTemplate, tmp_path: Path) -> None:
    table([("a", "OPVC", 1.0), ("b", "OEPC", 0.0)] * 3).save(tmp_path)
    with pytest.raises(DataError, match="no right trace of another family than a"):
        seen(template, str(tmp_path), arm="cross_family")
    assert seen(template, str(tmp_path), "b", arm="cross_family").meta[INJECTANT]["family"] == "a"


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
    longer = "Okay\n\nNext\n\nWait\n\nNext\n\nWait\n\nThe answer is 5"
    exactly = [answered(1, [followed] * 2, [1.0, 0.0], chain="OPVC"), answered(2, [longer] * 2, [1.0], chain="OPVPVC")]
    assert measure.metrics(exactly)["l1"] == 0, "plans of any length that are followed are no distance away"
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
