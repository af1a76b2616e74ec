"""Routing of teachers, prompts rendered for another chat template, group size 1, and the toy task."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylign.actors.frozen_model import FrozenModelGroup
from raylign.actors.learner.spec import LearnerSpec
from raylign.actors.reward.response import trajectory_of
from raylign.actors.routed import RoutedModel, RoutedModels, rendered_anew, same_vocabulary
from raylign.batch import Batch
from raylign.config.compose import compose, recipes
from raylign.config.schema import LearnerConfig
from raylign.errors import ConfigError, DataError
from raylign.plan import make_plan
from raylign.recipes.g_opd.toy import LENGTH, ReadOut, ReadOutReward
from raylign.records import Float32s, Prompt, Row

OTHER_TEMPLATE = (
    "{%- for message in messages -%}<|system|>be brief<|end|><|user|>{{ message['content'] }}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>think{%- endif -%}"
)


class Constant:
    """A frozen model that gives every loss token the same log-prob, and keeps what it was asked."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.seen: list[Batch] = []

    async def logprobs(self, batch: Batch) -> Float32s:
        self.seen.append(batch)
        return np.where(batch["loss_mask"], self.value, 0).astype(np.float32)


def prompt(tokenizer: Any, content: str, domain: str) -> Prompt:
    messages = ({"role": "user", "content": content},)
    ids = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)["input_ids"]
    return Prompt(id=content, messages=messages, token_ids=np.array(ids, np.int32), domain=domain)


def batch_of(prompts: list[Prompt], responses: list[tuple[int, list[int]]]) -> Batch:
    """Rows (group, response ids)."""
    samples = []
    for group, response in responses:
        head = prompts[group].token_ids
        size = len(head) + len(response)
        samples.append(
            Row(
                group=group,
                prompt_length=len(head),
                token_ids=np.concatenate([head, response]).astype(np.int32),
                loss_mask=np.arange(size) >= len(head),
                sampler_logprob=np.zeros(size, np.float32),
                policy_version=np.zeros(size, np.int32),
                advantage=np.zeros(size, np.float32),
                weight=np.ones(size, np.float32),
            )
        )
    return Batch.from_rows(samples)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def mixed(tokenizer: Any) -> tuple[list[Prompt], Batch]:
    """Two domains, rows interleaved, lengths different."""
    prompts = [prompt(tokenizer, text, domain) for text, domain in (("1+1?", "math"), ("print", "code"), ("2", "math"))]
    rows = [(0, [40, 41, 1]), (1, [50, 1]), (2, [60, 61, 62, 1]), (0, [42, 1])]
    return prompts, batch_of(prompts, rows)


async def test_every_row_is_scored_by_its_domains_teacher(mixed: tuple[list[Prompt], Batch]) -> None:
    prompts, batch = mixed
    math, code = Constant(-1.0), Constant(-2.0)
    models = [
        RoutedModel(name="m", frozen=math, domain="math"),
        RoutedModel(name="c", frozen=code, domain="code"),
    ]
    routed = RoutedModels("teacher_logprob", models)
    routed.check(prompts)
    stream = await routed.stream(batch, prompts)
    for row, domain in enumerate(("math", "code", "math", "math")):
        values = stream[batch.offsets[row] : batch.offsets[row + 1]]
        np.testing.assert_array_equal(values, np.where(batch.row(row, "loss_mask"), -1 if domain == "math" else -2, 0))
    assert len(math.seen[0]) == 3 and len(code.seen[0]) == 1


async def test_an_unknown_domain_is_an_error_and_never_a_fallback(mixed: tuple[list[Prompt], Batch]) -> None:
    prompts, batch = mixed
    routed = RoutedModels("teacher_logprob", [RoutedModel(name="m", frozen=Constant(-1.0), domain="math")])
    with pytest.raises(DataError, match="answers for the prompt domains 'code'"):
        routed.check(prompts)
    with pytest.raises(DataError, match="there are some for 'math'"):
        await routed.stream(batch, prompts)
    everything = RoutedModels("ref_logprob", [RoutedModel(name="r", frozen=Constant(-3.0))])
    assert set((await everything.stream(batch, prompts)).tolist()) == {0.0, -3.0}


@pytest.mark.parametrize("domains", [["math", "math"], ["", "math"], []])
def test_frozen_models_must_divide_the_stream(domains: list[str]) -> None:
    models = [RoutedModel(name=str(i), frozen=Constant(0), domain=domain) for i, domain in enumerate(domains)]
    with pytest.raises(ConfigError, match="domain of its own"):
        RoutedModels("teacher_logprob", models)


def test_prompts_are_rendered_anew_and_response_ids_kept(mixed: tuple[list[Prompt], Batch], tiny_model: Path) -> None:
    prompts, batch = mixed
    other = AutoTokenizer.from_pretrained(tiny_model)
    other.chat_template = OTHER_TEMPLATE
    rendered = rendered_anew(batch, prompts, other)
    for row, group in enumerate(batch.groups):
        head = other.apply_chat_template(list(prompts[group].messages), add_generation_prompt=True, return_dict=True)
        assert rendered.row(row, "token_ids")[: rendered.prompt_lengths[row]].tolist() == list(head["input_ids"])
        response = batch.row(row, "token_ids")[batch.prompt_lengths[row] :]
        np.testing.assert_array_equal(rendered.row(row, "token_ids")[rendered.prompt_lengths[row] :], response)
        assert rendered.row(row, "loss_mask").sum() == len(response)


def test_another_vocabulary_is_refused(tokenizer: Any, tiny_model: Path) -> None:
    same_vocabulary(tokenizer, AutoTokenizer.from_pretrained(tiny_model), "frozen.t.path", "x")
    stranger = AutoTokenizer.from_pretrained(tiny_model)
    stranger.add_tokens(["<new>"])
    with pytest.raises(ConfigError, match="another vocabulary"):
        same_vocabulary(tokenizer, stranger, "frozen.t.path", "x")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_teacher_with_another_template_scores_as_a_plain_forward(
    mixed: tuple[list[Prompt], Batch], tiny_model: Path, tmp_path: Path
) -> None:
    """The real frozen model actor against transformers on prompt (the teacher's template) + response, unpadded."""
    prompts, batch = mixed
    folder = tmp_path / "teacher"
    shutil.copytree(tiny_model, folder)
    other = AutoTokenizer.from_pretrained(folder)
    other.chat_template = OTHER_TEMPLATE
    learner = LearnerConfig(ranks=1, gpus=0, zero_stage=0, micro_batch_tokens=256)
    spec = LearnerSpec(model_path=str(folder), learner=learner, total_steps=0)

    def options(_: int) -> dict[str, Any]:
        return {"num_cpus": 1}

    async def score() -> Float32s:
        group = FrozenModelGroup(spec, name="teacher", log_dir=tmp_path, options=options)
        await group.start()
        try:
            models = [RoutedModel(name="t", frozen=group, tokenizer=other)]
            return await RoutedModels("teacher_logprob", models).stream(batch, prompts)
        finally:
            await group.close()

    stream = asyncio.run(score())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for row, group in enumerate(batch.groups):
        messages = list(prompts[group].messages)
        head = list(other.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])
        response = batch.row(row, "token_ids")[batch.prompt_lengths[row] :].tolist()
        with torch.no_grad():
            logits = model(torch.tensor([head + response])).logits[0, len(head) - 1 : -1]
        expected = torch.log_softmax(logits, -1)[torch.arange(len(response)), torch.tensor(response)]
        values = stream[batch.offsets[row] : batch.offsets[row + 1]]
        np.testing.assert_allclose(values[batch.row(row, "loss_mask")], expected.numpy(), atol=1e-5)
        assert (values[~batch.row(row, "loss_mask")] == 0).all()


def test_lambda_one_plans_no_reference() -> None:
    roles: Callable[[Any], set[str]] = lambda run: {role.name for role in make_plan(run).roles}  # noqa: E731
    exopd = compose(["recipe=g_opd", "scale=tiny"])
    plain = compose(["recipe=g_opd", "scale=tiny", "advantage.reward_weight=1"])
    assert {"frozen/teacher", "frozen/reference"} <= roles(exopd)
    assert "frozen/reference" not in roles(plain) and "frozen/teacher" in roles(plain)
    assert "ref_logprob" not in plain.streams()


def test_misconfigured_teachers_are_named() -> None:
    with pytest.raises(ConfigError, match="student itself"):
        compose(["recipe=g_opd", "scale=tiny", "frozen.teacher.path=''"])
    with pytest.raises(ConfigError, match="no frozen model is a teacher"):
        compose(["recipe=g_opd", "scale=tiny", "~frozen.teacher"])
    with pytest.raises(ConfigError, match="@techer: names no stage"):
        compose(["recipe=g_opd", "scale=tiny", "frozen.teacher.path=@techer"])


def test_it_runs_without_any_reward() -> None:
    tiny = ["recipe=g_opd", "scale=tiny", "~rewards.correct", "~stages.after", "~stages.teacher"]
    config = compose([*tiny, "frozen.teacher.path=@base"]).config
    assert not config.rewards


def test_composition_rls_prompt_source_by_overrides_alone() -> None:
    if "composition_rl" not in recipes():
        pytest.skip("recipe composition_rl is not installed")
    theirs = compose(["recipe=composition_rl", "scale=tiny"]).config.source
    assert isinstance(theirs, Mapping)
    source = f"source={{_target_: {theirs['_target_']}}}"
    assert compose(["recipe=g_opd", "scale=tiny", source]).config.source["_target_"] == theirs["_target_"]


def test_toy_rows_and_their_reward(tokenizer: Any) -> None:
    rows = list(ReadOut(ReadOut.Config(domains=["colours", "shapes"], noise=0.5)).rows(2000, seed=1))
    reward = ReadOutReward(ReadOutReward.Config())
    verdicts = []
    for row in rows:
        asked = prompt(tokenizer, row.messages[0]["content"], row.domain)
        asked = Prompt(id="x", messages=asked.messages, token_ids=asked.token_ids, answer=row.answer)
        assert row.target is not None and len(row.target) == LENGTH
        verdicts.append(reward.score(asked, [trajectory_of(asked, row.target)])[0].score)
    assert np.mean(verdicts) == pytest.approx((0.5 + 0.5 / 8) ** 2, abs=0.03)
    assert 0.45 < np.mean([row.domain == "colours" for row in rows]) < 0.55
    gold = reward.gold(asked)
    assert gold is not None and reward.judge(asked, gold).score == 1 and reward.judge(asked, gold + "z").score == 0
    with pytest.raises(ValueError, match="choose from colours, shapes"):
        ReadOut.Config(domains=["colors"])
