"""Files under the templates of six families: the template's own part is ``apply_chat_template``'s to the token."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_cases import CASES, Case, write
from chat_families import BY_NAME, FAMILIES, Family

from raylign.actors.rollout.chat import Chat
from raylign.chat.template import ChatTemplate
from raylign.config.schema import DataConfig
from raylign.data.pairs import Truncation, load_pairs
from raylign.data.prompts import load_prompts
from raylign.errors import DataError, RequestError
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.records import Prompt

KEYS = [(family, case) for family in FAMILIES for case in CASES if family.name not in case.without]
REFUSED = [(family, case) for family in FAMILIES for case in CASES if family.name in case.without]
everywhere = pytest.mark.parametrize(("family", "case"), KEYS, ids=[f"{f.name}: {c.name}" for f, c in KEYS])


def ids_of(tokenizer: Any, messages: list[Any], tools: Any, **options: Any) -> list[int]:
    """What the template itself gives."""
    if "add_generation_prompt" in options and messages[-1]["role"] == "assistant":
        options = {"continue_final_message": True}
    given = tokenizer.apply_chat_template(messages, tools=list(tools) or None, return_dict=True, **options)
    return list(given["input_ids"])


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def of(case: Case, pair: bool = False) -> DataConfig:
        return DataConfig(path=str(write(case, tmp_path, pair)), holdout=0, max_prompt_tokens=4000)

    return of


def prompt_of(load: Any, case: Case, template: Any) -> Prompt:
    return load_prompts(load(case), template, 1).train[0]


def whole(tokenizer: Any, family: Family, case: Case) -> list[int]:
    """Ids of the template's own rendering of prompt and answer, up to the end of the answer's turn."""
    messages, answer = list(case.messages), dict(case.answer)
    if messages[-1]["role"] == "assistant":
        answer["content"] = messages.pop()["content"] + answer["content"]
    then = case.next if answer.get("tool_calls") else [{"role": "user", "content": "x"}]
    end = {tokenizer.convert_tokens_to_ids(token) for token in family.ends}
    if moves_the_system_message(family, case):
        messages = messages[1:]
    before = ids_of(tokenizer, messages, case.tools, add_generation_prompt=True)
    for following in ([], then):
        ids = ids_of(tokenizer, [*messages, answer, *following], case.tools)
        ends = [index for index in range(len(before), len(ids)) if ids[index] in end]
        if ends:
            return ids[: ends[0] + 1]
    raise AssertionError("the template ends no turn")


def moves_the_system_message(family: Family, case: Case) -> bool:
    """Mistral's template puts it before the last question only, and leaves it out where an answer follows."""
    return family.name == "mistral" and case.messages[0]["role"] == "system"


def merges_over_the_boundary(family: Family, case: Case) -> bool:
    """These two vocabularies know tokens of several words, and a policy begins a token where its prompt ends."""
    return family.pieces and case.messages[-1]["role"] == "assistant"


@everywhere
def test_rl_reads_what_the_template_gives(family: Family, case: Case, tokenizers: Any, load: Any) -> None:
    tokenizer = tokenizers[family.name]
    expected = ids_of(tokenizer, case.messages, case.tools, add_generation_prompt=True)
    assert prompt_of(load, case, tokenizer).token_ids.tolist() == expected


@everywhere
def test_sft_learns_what_the_template_gives(family: Family, case: Case, tokenizers: Any, load: Any) -> None:
    tokenizer = tokenizers[family.name]
    (row,) = demonstrations([prompt_of(load, case, tokenizer)], tokenizer)
    if family.name == "qwen3" and case.messages[-1]["role"] == "assistant":
        assert tokenizer.decode(row.token_ids[row.loss_mask]) == " is 4<|im_end|>"  # continued as text
        return
    expected = whole(tokenizer, family, case)
    if moves_the_system_message(family, case):
        header = tokenizer.convert_tokens_to_ids("[/INST]")
        expected = [*row.token_ids[: row.prompt_length], *expected[expected.index(header) + 1 :]]
    if merges_over_the_boundary(family, case):
        assert tokenizer.decode(row.token_ids) == tokenizer.decode(expected)
    else:
        assert row.token_ids.tolist() == expected
    assert row.loss_mask[row.prompt_length :].all() and not row.loss_mask[: row.prompt_length].any()


@everywhere
def test_pairs_learn_what_the_template_gives(family: Family, case: Case, tokenizers: Any, load: Any) -> None:
    tokenizer = tokenizers[family.name]
    (pair,) = load_pairs(load(case, pair=True), tokenizer, 4000, Truncation.drop, 1).train
    (row,) = demonstrations([prompt_of(load, case, tokenizer)], tokenizer)
    assert [*pair.prompt.token_ids, *pair.chosen] == row.token_ids.tolist()
    ends = {tokenizer.convert_tokens_to_ids(token) for token in family.ends}
    for answer in (pair.chosen, pair.rejected):
        assert [index for index, number in enumerate(answer) if number in ends] == [len(answer) - 1]


@everywhere
def test_an_episode_of_two_turns_reads_what_the_template_gives(
    family: Family, case: Case, tokenizers: Any, load: Any
) -> None:
    tokenizer = tokenizers[family.name]
    template = ChatTemplate(tokenizer)
    prompt = prompt_of(load, case, template)
    said = template.answer_ids(prompt.messages, case.answer, prompt.tools, case.next[0])
    chat = Chat(template, prompt.messages, prompt.tools)
    between = chat.said(case.answer, template.text_of(said), said[-1], case.next)
    ids = [*prompt.token_ids, *said, *between]
    last = list(case.messages)
    answer = dict(case.answer)
    if last[-1]["role"] == "assistant":
        answer["content"] = last.pop()["content"] + answer["content"]
    expected = ids_of(tokenizer, [*last, answer, *case.next], case.tools, add_generation_prompt=True)
    if family.name == "qwen3" and ids != expected:  # which drops thoughts, and empty ones, before a new question
        tail = len(between)
        assert ids[-tail:] == expected[-tail:]
        assert "<think>" in tokenizer.decode(ids) and "<think>" not in tokenizer.decode(expected)
    elif merges_over_the_boundary(family, case):
        assert tokenizer.decode(ids) == tokenizer.decode(expected)
    elif moves_the_system_message(family, case):
        assert ids[-len(between) :] == expected[-len(between) :]
    elif family.name == "mistral" and case.tools and case.next[0]["role"] == "user":
        assert ids[-len(between) :] == expected[-len(between) :]  # which moves the tools before the last question
    else:
        assert ids == expected


@everywhere
def test_an_episode_of_texts_never_repeats_and_never_misses_the_end(
    family: Family, case: Case, tokenizers: Any, load: Any
) -> None:
    """As a rollout has it: the turn is a text, ended by the policy or cut off."""
    tokenizer = tokenizers[family.name]
    template = ChatTemplate(tokenizer)
    prompt = prompt_of(load, case, template)
    said = template.answer_ids(prompt.messages, case.answer, prompt.tools, case.next[0])
    text = template.text_of(said)
    ended = Chat(template, prompt.messages, prompt.tools).answered(text, said[-1], case.next)
    cut = Chat(template, prompt.messages, prompt.tools).answered(text, None, case.next)
    ends = {tokenizer.convert_tokens_to_ids(token) for token in family.ends}
    assert ended[0] not in ends or (family.name == "glm4" and case.next[0]["role"] == "tool")
    assert next(number for number in cut if number in template.codec.spelling) in ends
    at = next(index for index, number in enumerate(cut) if number in ends)
    assert cut[at + 1 :].tolist() == ended.tolist()


@pytest.mark.parametrize(("family", "case"), REFUSED, ids=[f"{f.name}: {c.name}" for f, c in REFUSED])
def test_what_a_template_cannot_say_is_refused_with_its_place(
    family: Family, case: Case, tokenizers: Any, load: Any
) -> None:
    with pytest.raises(DataError, match=r"a\.(jsonl:1|parquet:row 1): .*(does not render|refuses)") as seen:
        demonstrations([prompt_of(load, case, tokenizers[family.name])], tokenizers[family.name])
    assert "\n" not in str(seen.value)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_turns_end_in_what_template_generation_config_and_tokenizer_say(family: Family, tokenizers: Any) -> None:
    template = ChatTemplate(tokenizers[family.name])
    assert {template.codec.spelling[number] for number in template.ends} == set(family.ends)
    answer = template.answer_ids([{"role": "user", "content": "a"}], {"role": "assistant", "content": "b"})
    assert template.codec.spelling[answer[-1]] == family.end
    shown = template.text_of([*answer, *[tokenizers[family.name].pad_token_id]])
    assert shown.strip() == "b" if family.name != "qwen3" else shown == "<think>\n\n</think>\n\nb"


def test_template_arguments_reach_prompts_and_answers(tokenizers: Any, load: Any) -> None:
    tokenizer, case = tokenizers["qwen3"], CASES[0]
    template = ChatTemplate(tokenizer, {"enable_thinking": False})
    prompt = prompt_of(load, case, template)
    assert prompt.token_ids.tolist() == ids_of(
        tokenizer, case.messages, (), add_generation_prompt=True, enable_thinking=False
    )
    assert tokenizer.decode(prompt.token_ids).endswith("<think>\n\n</think>\n\n")
    (row,) = demonstrations([prompt], template)
    (pair,) = load_pairs(load(case, pair=True), template, 4000, Truncation.drop, 1).train
    assert tokenizer.decode(row.token_ids[row.loss_mask]) == tokenizer.decode(pair.chosen) == "4<|im_end|>"


def test_thoughts_that_the_template_drops_are_counted_and_stay(tokenizers: Any) -> None:
    template = ChatTemplate(tokenizers["qwen3"])
    chat = Chat(template, [{"role": "user", "content": "a"}])
    end = template.codec.tokenizer.eos_token_id
    chat.answered("<think>\nt\n</think>\n\nb", end, [{"role": "user", "content": "c"}])
    assert chat.mismatches == 0
    chat.answered("d", end, [{"role": "user", "content": "e"}])
    assert chat.mismatches == 1


def test_a_prompt_that_opens_a_thought_wants_answers_that_go_on_with_it(tokenizers: Any) -> None:
    """As DeepSeek-R1's template: an answer is rendered without the thought that every prompt opens."""
    tokenizer = copy.deepcopy(tokenizers["phi3"])
    opened = "{{ '<|assistant|>\n<think>\n' }}{% else %}"
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ '<|assistant|>\n' }}{% else %}", opened)
    assert opened in tokenizer.chat_template
    template, question = ChatTemplate(tokenizer), [{"role": "user", "content": "2?"}]
    answer = template.answer_ids(question, {"role": "assistant", "content": "<think>\nadd</think>4"})
    assert tokenizer.decode(answer).strip() == "add</think>4<|end|>"
    with pytest.raises(RequestError, match="opens every answer with '<think>"):
        template.answer_ids(question, {"role": "assistant", "content": "4"})


def test_a_prompt_that_ends_with_a_call_is_refused(tokenizers: Any, load: Any) -> None:
    case = next(case for case in CASES if case.answer.get("tool_calls"))
    asked = Case("", [*case.messages, case.answer], case.answer, tools=case.tools)
    with pytest.raises(DataError, match=r"a\.jsonl:1: .*a call that no tool has answered"):
        prompt_of(load, asked, tokenizers["qwen3"])


def test_families_are_of_six_forms() -> None:
    assert len(BY_NAME) == 6 and len(CASES) >= 12
    assert np.all([case.next for case in CASES])
