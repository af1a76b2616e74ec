"""P-GenRM's model in other recipes, by overrides alone: a reward, a labeller of pairs; and real demonstrations."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from p_genrm_cases import LETTERS, asked, item, written

from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose
from raylign.data.rows import write_rows
from raylign.errors import DataError, JudgeUnreadable
from raylign.models.tokenizer import load_tokenizer
from raylign.objectives.shaping import WeightedSum
from raylign.plan import make_plan
from raylign.recipes.p_genrm import JsonChains, PersonalChoices, PersonaReward
from raylign.recipes.p_genrm.items import Choice, UserSplit, item_of
from raylign.recipes.stages.keep import BestAndWorst
from raylign.recipes.stages.made_rows import RowWriter
from raylign.records import Prompt
from raylign.testing import group, prompt, trajectory

DEMONSTRATIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "synthesizeme" / "demonstrations.json"
SCRIPTED = {"_target_": "raylign.actors.judge.scripted.Scripted", "function": "raylign.recipes.p_genrm.toy.reader"}
PAST = [{"query": "x", "chosen": "af", "rejected": "de"}, {"query": "x", "chosen": "ce", "rejected": "df"}]

JUDGEMENT = {
    "query": re.compile(r"\*\*Conversation\*\*:(.*?)\n===", re.DOTALL),
    "first": re.compile(r"FIRST COMPLETION\)\*\*: «(.*?)»", re.DOTALL),
    "second": re.compile(r"SECOND COMPLETION\)\*\*: «(.*?)»", re.DOTALL),
    "preferred": re.compile(r"TRUE USER PREFERENCE\*\*: (First|Second)"),
}


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


def persona(**settings: Any) -> PersonaReward:
    """The trained model is a script that scores by the letters of all chosen and of no rejected past response."""
    judge = {"model": {**SCRIPTED, "settings": settings.pop("script", {})}}
    return PersonaReward(PersonaReward.Config(judge=judge, form=LETTERS, **settings))


# ------------------------------------------------------------------------------------------------- as a reward


def test_answers_are_scored_as_the_user_would(template: ChatTemplate) -> None:
    """The user likes a, c, e and f by what is known; the ring shows every answer twice, the order is the prompt's."""
    question = prompt(text="x", meta={"history": PAST})
    answers = [trajectory(text) for text in ("bd", "ac", "ab", "ac")]
    values = persona().score(question, answers)
    scores = [value.score for value in values if value is not None]
    assert scores == [0.0, 8.0, 4.0, 8.0], "equal texts have equal rewards, whatever stands beside"
    assert values[0] is not None and values[0].details["judged"] == 3
    assert [v.score for v in persona(together=3).score(question, answers) if v] == scores
    assert persona().score(question, answers[1:2] * 3) == [None] * 3, "nothing to compare with"
    of_item = asked(template, item(history=(Choice("x", "af", "de"), Choice("x", "ce", "df"))))
    assert [v.score for v in persona().score(of_item, answers) if v] == scores


def test_what_cannot_be_judged_is_missing() -> None:
    answers = [trajectory("bd"), trajectory("ac")]
    with pytest.raises(DataError, match=r"p0: history: 'None' is no list of past choices; fix: give query"):
        persona().score(prompt(text="x"), answers)
    with pytest.raises(DataError, match=r"p0: history: past choice 1 has no text 'rejected'; fix"):
        persona().score(prompt(text="x", meta={"history": [{"query": "q", "chosen": "c"}]}), answers)
    with pytest.raises(JudgeUnreadable, match="not in form"):
        persona(script={"mute": True}).score(prompt(text="x", meta={"history": PAST}), answers)


def test_it_rewards_another_recipe_by_overrides_alone(tiny_model: Path) -> None:
    fn = "{_target_: raylign.recipes.p_genrm.PersonaReward, form: {_target_: raylign.recipes.p_genrm.toy.LetterChains}}"
    model = "{_target_: raylign.actors.judge.served.Served, name: persona}"
    given = [
        f"+rewards.persona.fn={fn}",
        f"+rewards.persona.fn.judge.model={model}",
        f"+judges.persona.path={tiny_model}",
    ]
    run = compose(["recipe=grpo", "scale=tiny", "~rewards.correct", *given])
    make_plan(run)
    assert run.parts["rewards.persona.fn"].cls is PersonaReward
    run = compose(["recipe=bao", "scale=tiny", *given])
    assert run.weights("rl")["persona"] == 1.0


# ------------------------------------------------------------------------------------------------- as a labeller


def test_it_labels_pairs_for_the_preference_stage(tiny_model: Path, tmp_path: Path) -> None:
    """Reward, sum, keep and writer as `Generate` calls them; the rows are pairs for `Preference`."""
    question = Prompt(
        id="p0",
        messages=({"role": "user", "content": "x"},),
        token_ids=prompt().token_ids,
        meta={"history": PAST},
    )
    said = [trajectory(text) for text in ("bd", "ac", "ab")]
    values = persona().score(question, said)
    rewarded = [replace(one, rewards={"persona": value}) for one, value in zip(said, values, strict=True) if value]
    (scored,) = WeightedSum(WeightedSum.Config(), {"persona": 1.0}, 9).score([group(*rewarded, prompt=question)])
    kept = BestAndWorst(BestAndWorst.Config()).keep(scored, [0, 1, 2])
    rows = RowWriter(stage="label", model="m", scored=True).rows(scored, kept[0])
    assert rows[0].meta["chosen"] == "ac" and rows[0].meta["rejected"] == "bd"
    assert write_rows(tmp_path / "rows.jsonl", rows) == 1
    stages = "stages.label={_target_: raylign.recipes.stages.generate.Generate, samples: 4, weights: {persona: 1}, "
    stages += "keep: {_target_: raylign.recipes.stages.keep.BestAndWorst}}"
    model = "{_target_: raylign.actors.judge.served.Served, name: persona}"
    fn = f"{{_target_: raylign.recipes.p_genrm.PersonaReward, judge: {{model: {model}}}}}"
    given = [f"+rewards.persona={{fn: {fn}}}", f"+judges.persona.path={tiny_model}"]
    learned = "stages.dpo={_target_: raylign.recipes.stages.preference.Preference, data: '@label', max_tokens: 64}"
    own = ["recipe=p_genrm", "scale=tiny", *given, f"+{stages}", f"+{learned}"]
    run = compose([*own, "+frozen.reference={stream: ref_logprob}"])
    assert [stage.name for stage in run.stages][-2:] == ["label", "dpo"]


# ------------------------------------------------------------------------------------------- real demonstrations


def demonstrations() -> list[dict[str, Any]]:
    if not DEMONSTRATIONS.exists():
        pytest.skip("the demonstrations of SynthesizeMe are not here")
    known = json.loads(DEMONSTRATIONS.read_text())
    return list(known["synthesize.predict"]["demos"])


def test_real_judgements_are_choices_and_come_through_a_file(tmp_path: Path, template: ChatTemplate) -> None:
    read = 0
    for number, demonstration in enumerate(demonstrations()):
        past = judgements(demonstration["past_judgements"])
        rows = [
            {
                "user_id": f"u{number}",
                "split": "test" if n == 0 else "train",
                "user_split": "test",
                "context": query,
                "chosen": chosen,
                "rejected": rejected,
            }
            for n, (query, chosen, rejected) in enumerate(past)
        ]
        if len(rows) < 2:
            continue
        read += len(rows)
        path = written(tmp_path / f"{number}.jsonl", rows)
        (row,) = PersonalChoices(PersonalChoices.Config(path=str(path))).rows(0, 1)
        made, text = item_of(row.meta, row.place), row.messages[0]["content"]
        assert made.part is UserSplit.test and made.responses[made.best] == past[0][1]
        assert all(choice.chosen in text and choice.rejected in text for choice in made.history)
        assert made.query in text and all(response in text for response in made.responses)
        form = JsonChains(JsonChains.Config())
        said = str(demonstration["synthesized_persona"]).strip()
        chain = form.read(form.write([6.5, 3.0], {"clarity": 100}, said), 2)
        assert chain is not None and chain.scores == (6.5, 3.0) and chain.analysis == said
    assert read >= 15


def judgements(text: str) -> list[tuple[str, str, str]]:
    """(conversation, chosen, rejected) of each judgement that a demonstration shows."""
    found = []
    for block in text.split("=" * 48):
        query, first, second, preferred = (JUDGEMENT[name].search(block) for name in JUDGEMENT)
        if query and first and second and preferred:
            pair = (first[1], second[1]) if preferred[1] == "First" else (second[1], first[1])
            found.append((query[1].strip(), *pair))
    return found


def test_a_chain_sees_as_many_past_choices_as_it_was_trained_on() -> None:
    """Ten past choices of which every one likes another letter: three are shown, of a prompt always the same."""
    past = [{"query": "x", "chosen": letter, "rejected": "z"} for letter in "abcdefghij"]
    asks = [prompt(number, text="x", meta={"history": past}) for number in range(8)]
    shown = [[choice.chosen for choice in persona()._known(one)[1]] for one in asks]
    assert all(len(letters) == 3 and letters == sorted(letters) for letters in shown)
    assert shown == [[choice.chosen for choice in persona()._known(one)[1]] for one in asks]
    assert len({tuple(letters) for letters in shown}) > 4
    assert len(persona(shown=0)._known(asks[0])[1]) == 10
