"""P-GenRM's rows as people write them: contents as parts, rows that nobody asks, system messages, thoughts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from p_genrm_cases import FORM, LETTERS, ScriptedPolicy, choice_row, item, written

from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose
from raylign.config.schema import DataConfig
from raylign.contracts import RolloutTask, Sampling
from raylign.data.prompts import load_prompts
from raylign.errors import ConfigError, DataError
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.p_genrm import Agrees, Asked, InForm, JsonChains, Outcome, PersonalChoices
from raylign.recipes.p_genrm.choices import _weights, record_of
from raylign.recipes.p_genrm.items import Choice, UserSplit
from raylign.recipes.p_genrm.scaling import UserScaling
from raylign.recipes.p_genrm.views import Shown
from raylign.records import Prompt
from raylign.testing import call, group, prompt, trajectory

PARTS = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]
SYSTEM = {"role": "system", "content": "Answer."}


def row(**fields: Any) -> dict[str, Any]:
    return {"user_id": "u", "split": "train", "context": "q", "chosen": "yes", "rejected": "no", **fields}


@pytest.mark.parametrize(
    ("context", "query"),
    [
        ("Hello there", "Hello there"),
        ({"role": "user", "content": "Hello there"}, "Hello there"),
        ({"role": "user", "content": PARTS}, "Hello there"),
        ([{"role": "user", "content": PARTS}], "user: Hello there"),
        ([{"from": "human", "value": "Hello there"}], "user: Hello there"),
        ('[{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi"}]', None),
        ([{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi"}], None),
    ],
)
def test_a_content_of_text_parts_is_their_text(context: Any, query: str | None) -> None:
    assert record_of(row(context=context), "f:1").query == (query or "user: Hello there\nassistant: Hi")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("chosen", [{"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "x"}}]}]),
        ("chosen", {"role": "assistant", "content": "so", "tool_calls": [{"function": {"name": "x"}}]}),
        ("chosen", {"role": "assistant", "content": None}),
        ("rejected", {"role": "assistant", "content": [{"type": "image_url", "image_url": "a.png"}]}),
        ("rejected", ["no"]),
        ("context", [{"role": "user", "content": "a"}, {"role": "assistant", "content": ""}]),
        ("context", {"role": "stranger", "content": "a"}),
        ("context", 7),
    ],
)
def test_a_content_that_is_no_text_is_refused_with_row_and_column(key: str, value: Any) -> None:
    with pytest.raises(DataError, match=rf"^f:1: .*{key}"):
        record_of(row(**{key: value}), "f:1")


def test_rows_that_nobody_asks_are_counted(tmp_path: Path, template: ChatTemplate) -> None:
    splits = ("train", "train", "val", "test")
    rows = [choice_row(f"u{user}", n, split) for user in range(20) for n, split in enumerate(splits)]
    generator = PersonalChoices(PersonalChoices.Config(path=str(written(tmp_path / "c.jsonl", rows)), held_out=0.3))
    made = list(generator.rows(0, 1))
    held = sum(made_row.domain == UserSplit.test for made_row in made)
    assert 0 < held < 20 and len(made) == 3 * (20 - held) + held
    told = (
        f"{80 - len(made)} rows are no item: {20 - held} of the test split, of users to train on, "
        f"{3 * held} of train or val, of held-out users"
    )
    plain = generator.left_out().replace(",", "")
    assert sorted(plain.split()) == sorted(told.replace(",", "").split())
    assert "10 of those beyond data.size=" in (list(generator.rows(len(made) - 10, 1)), generator.left_out())[1]
    node = {"_target_": "raylign.recipes.p_genrm.PersonalChoices", "path": str(tmp_path / "c.jsonl"), "held_out": 0.3}
    read = load_prompts(DataConfig(generator=node, size=500, holdout=0, max_prompt_tokens=9999), template, 1)
    assert f"PersonalChoices ({80 - len(made)} rows are no item: " in str(read.report)


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


def asked(template: ChatTemplate, around: bool, **fields: Any) -> Prompt:
    """An item's prompt below a system message, perhaps in a template."""
    made = item(part=UserSplit.train, **fields)
    (question,) = FORM.messages(made)
    text = f"<{question['content']}>" if around else question["content"]
    meta = {**made.meta(), **({"question": question["content"]} if around else {})}
    messages = (SYSTEM, {"role": "user", "content": text})
    return Prompt(id="p", messages=messages, token_ids=np.asarray(template.prompt_ids(messages), np.int32), meta=meta)


@pytest.mark.parametrize("around", [False, True])
async def test_what_the_data_settings_put_around_a_question_stays(
    template: ChatTemplate, tmp_path: Path, around: bool
) -> None:
    plain = asked(template, around)
    view = Asked(Asked.Config(form=LETTERS, shown=Shown.stated), tokenizer=template, seed=1)
    (told,) = view.prompts([plain])
    stated = FORM.messages(item(), stated=True)[0]["content"]
    assert told.messages == (SYSTEM, {"role": "user", "content": f"<{stated}>" if around else stated})
    assert told.token_ids.tolist() == template.prompt_ids(told.messages)
    lent = (Choice("y", "cb", "ef"),)
    scaling = object.__new__(UserScaling)
    scaling._form, scaling._store = FORM, type("Lends", (), {"histories": [lent]})()
    for before in (plain, told):
        task = RolloutTask(prompt=before, n=1, sampling=Sampling(max_tokens=8), run_seed=1)
        ids = scaling._with_history(task, ScriptedPolicy(template, lambda *_: ""), item(), 0)
        text = FORM.messages(replace(item(), history=lent, stated=""))[0]["content"]
        wanted = (SYSTEM, {"role": "user", "content": f"<{text}>" if around else text})
        assert ids.tolist() == template.prompt_ids(wanted)


def test_a_curriculum_that_counts_prompts_is_refused_under_dynamic_sampling() -> None:
    with pytest.raises(ConfigError, match="asks more prompts a step") as error:
        compose(["recipe=p_genrm", "scale=tiny", "stages.hard.dynamic_sampling=true"])
    assert "set stages.hard.dynamic_sampling=false" in str(error.value)


# ------------------------------------------------------------------------------------------------------ thoughts

JSON = JsonChains(JsonChains.Config())
CHAIN = JSON.write([7, 3], {"brevity": 100}, "Likes brevity.")
THOUGHT = "The user chose response 1, for part 1 says so.\nThen part 2:\n- draft [40%]\n"


@pytest.mark.parametrize("text", [f"<think>\n{THOUGHT}</think>\n{CHAIN}", f"{THOUGHT}</think>{CHAIN}"])
def test_a_chain_is_read_without_the_thought_before_it(text: str) -> None:
    assert JSON.read(text, 2) == JSON.read(CHAIN, 2) is not None
    assert JSON.read(f"<think>{CHAIN}", 2) is None, "a thought that is not closed is no chain"
    keep = Agrees(Agrees.Config())
    made = item(responses=("a", "b"), gold=(1.0, 0.0))
    samples = group(trajectory(text), trajectory(f"<think>{CHAIN}"), prompt=prompt(meta=made.meta()))
    assert [kept.sample for kept in keep.keep(samples, [0, 1])] == [0]


def test_a_thought_that_the_template_opened_is_no_chain() -> None:
    made = item(responses=("a", "b"), gold=(1.0, 0.0))
    opened = prompt(meta=made.meta(), thinks=True)
    samples = [trajectory(call(text)) for text in (f"draft {CHAIN} hmm", f"draft {CHAIN}</think>{CHAIN}")]
    assert [value.score for value in Outcome(Outcome.Config()).score(opened, samples)] == [0.0, 1.0]
    assert [kept.sample for kept in InForm(InForm.Config()).keep(group(*samples, prompt=opened), [0, 1])] == [1]


def test_criteria_that_are_no_names_are_refused_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"criteria=.* is no list of names; fix"):
        _weights({"criteria": [{"name": "brevity"}]}, "a.jsonl:1", "criteria")
    assert _weights({"criteria": ["brevity"]}, "a.jsonl:1", "criteria") == {"brevity": 1.0}
