"""Context distillation: what the teacher reads in place of the prompt, and what becomes of rows without a context."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylign.actors.frozen_model import FrozenModelGroup
from raylign.actors.learner.spec import LearnerSpec
from raylign.actors.routed import RoutedModel, RoutedModels
from raylign.batch import Batch
from raylign.config.build import build
from raylign.config.compose import compose
from raylign.config.schema import LearnerConfig
from raylign.contracts import Part
from raylign.errors import ConfigError, DataError
from raylign.recipes.g_opd import TeacherAdvantage
from raylign.recipes.g_opd.context import CritiqueContext, SolutionContext
from raylign.records import Float32s, Message, Missing, Prompt, Row

ANSWERS = ([50, 51, 1], [52, 1], [53, 54, 55, 1])


class Judge(BaseHTTPRequestHandler):
    """Chat completions that quote what was asked; every request of a text is refused once first."""

    refused: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][0]["content"]
        first = text not in self.refused
        self.refused.add(text)
        said = " " if "silence" in text else f"[{asked['model']}] {text[-12:]} is wrong"
        reply = {"choices": [{"message": {"role": "assistant", "content": said}}]}
        self.send_response(503 if first else 200)
        self.end_headers()
        self.wfile.write(b"{}" if first else json.dumps(reply).encode())

    def log_message(self, *_: Any) -> None:
        """Nothing on the test's screen."""


@pytest.fixture
def judge() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    Judge.refused = set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def asked(tokenizer: Any) -> list[Prompt]:
    prompts = []
    for text in ("1+1?", "7*8?"):
        messages = ({"role": "system", "content": "s"}, {"role": "user", "content": text})
        ids = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)["input_ids"]
        meta = {"extra_info": {"ref_solution": f"as {text} says"}}
        prompt = Prompt(id=text, messages=messages, token_ids=np.array(ids, np.int32), answer="2", meta=meta)
        prompts.append(prompt)
    return prompts


@pytest.fixture
def batch(asked: list[Prompt]) -> Batch:
    """Two samples of the first prompt and one of the second."""
    samples = []
    for group, response in zip((0, 0, 1), ANSWERS, strict=True):
        head = asked[group].token_ids
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


class ByLength:
    """A context that is as long as the response, missing for the responses named."""

    def __init__(self, missing: set[str], max_missing: float = 0.5) -> None:
        self.missing, self.max_missing = missing, max_missing

    async def messages(self, prompt: Prompt, response: str) -> tuple[Message, ...] | Missing:
        if response in self.missing:
            return Missing(reason="no critique")
        return ({"role": "user", "content": "x" * len(response)},)


class Heads:
    """A frozen model whose log-prob of a row is minus the length of what precedes the response."""

    def __init__(self) -> None:
        self.seen: list[Batch] = []

    async def logprobs(self, batch: Batch) -> Float32s:
        self.seen.append(batch)
        return np.where(batch["loss_mask"], -batch.prompt_lengths[batch.row_of_token], 0).astype(np.float32)


def routed(frozen: Any, tokenizer: Any, context: Any) -> RoutedModels:
    return RoutedModels("teacher_logprob", [RoutedModel(name="t", frozen=frozen, tokenizer=tokenizer, context=context)])


async def test_reference_solution_stands_in_the_last_user_turn(asked: list[Prompt]) -> None:
    context = SolutionContext(SolutionContext.Config())
    system, user = await context.messages(asked[0], "whatever")
    assert system == asked[0].messages[0] and user["role"] == "user"
    assert user["content"].startswith("1+1?\n") and "as 1+1? says" in user["content"]
    assert "solve the problem yourself" in user["content"]
    with pytest.raises(DataError, match=r"no text in the column 'extra_info.ref_solution'"):
        await context.messages(replace(asked[0], meta={}), "")


async def test_critique_comes_from_the_judge_and_ends_in_a_request_to_rewrite(asked: list[Prompt], judge: str) -> None:
    context: CritiqueContext = build(
        Part,
        {"_target_": "raylign.recipes.g_opd.context.CritiqueContext", "url": judge, "model": "m", "retries": 1},
        "c",
    )
    *before, own, review = await context.messages(asked[0], "it is 3")
    assert tuple(before) == asked[0].messages and own == {"role": "assistant", "content": "it is 3"}
    assert review["role"] == "user" and "[m]" in review["content"] and "it is 3 is wrong" in review["content"]
    assert "write the solution anew" in review["content"]
    text = next(iter(Judge.refused))
    assert all(part in text for part in ("1+1?", "# Correct answer\n2", "it is 3")), "problem, answer and solution"


async def test_judge_that_cannot_be_asked_gives_missing_and_never_an_empty_critique(
    asked: list[Prompt], judge: str
) -> None:
    impatient = CritiqueContext(CritiqueContext.Config(url=judge, model="m", retries=0))
    messages = await impatient.messages(asked[0], "silence, and the first request is refused")
    assert isinstance(messages, Missing) and "503" in messages.reason
    messages = await impatient.messages(asked[0], "silence, and the first request is refused")
    assert isinstance(messages, Missing) and "is empty" in messages.reason


async def test_rows_of_a_group_read_contexts_of_their_own(asked: list[Prompt], batch: Batch, tokenizer: Any) -> None:
    frozen = Heads()
    lost = tokenizer.decode(ANSWERS[1], skip_special_tokens=True)
    stream = await routed(frozen, tokenizer, ByLength({lost})).stream(batch, asked)
    seen = frozen.seen[0]
    assert len(seen) == 2 and len(set(seen.groups.tolist())) == 2
    kept = iter(range(2))
    for row, response in enumerate(ANSWERS):
        values = stream[batch.offsets[row] : batch.offsets[row + 1]][batch.row(row, "loss_mask")]
        if row == 1:
            assert np.isnan(values).all()
            continue
        number = next(kept)
        text = tokenizer.decode(response, skip_special_tokens=True)
        head = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x" * len(text)}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        assert seen.row(number, "token_ids").tolist() == [*head, *response], "the sampled ids are unchanged"
        assert (values == -len(head)).all()
    assert (stream[~np.asarray(batch["loss_mask"])] == 0).all()


async def test_equal_heads_stay_one_group_and_other_heads_do_not(
    asked: list[Prompt], batch: Batch, tokenizer: Any
) -> None:
    frozen = Heads()
    await routed(frozen, tokenizer, SolutionContext(SolutionContext.Config())).stream(batch, asked)
    assert frozen.seen[0].groups.tolist() == [0, 0, 1]
    await routed(frozen, tokenizer, ByLength(set())).stream(batch, asked)
    assert frozen.seen[1].groups.tolist() == [0, 1, 2], "their common head would be computed once"


async def test_too_many_missing_contexts_end_the_run(asked: list[Prompt], batch: Batch, tokenizer: Any) -> None:
    every = {tokenizer.decode(ids, skip_special_tokens=True) for ids in ANSWERS}
    with pytest.raises(DataError, match="no context for 3 of 3 rows, first: no critique"):
        await routed(Heads(), tokenizer, ByLength(every)).stream(batch, asked)
    stream = await routed(Heads(), tokenizer, ByLength(every, max_missing=1.0)).stream(batch, asked)
    assert np.isnan(stream[np.asarray(batch["loss_mask"])]).all()


def test_unscored_row_has_no_weight_and_is_counted(batch: Batch) -> None:
    teacher = np.where(batch["loss_mask"], -1.0, 0.0).astype(np.float32)
    lost = batch.row_of_token == 1
    teacher[lost & np.asarray(batch["loss_mask"])] = np.nan
    advantage = TeacherAdvantage(TeacherAdvantage.Config(reward_weight=1.0))
    old = np.where(batch["loss_mask"], -3.0, 0.0).astype(np.float32)
    given = batch.with_streams(teacher_logprob=teacher, old_logprob=old)
    assigned, metrics = advantage.assign(given, np.full(3, np.nan, np.float32))
    assert (assigned["weight"][lost] == 0).all() and (assigned["weight"][~lost] == 1).all()
    assert (assigned["advantage"][lost] == 0).all()
    assert metrics["distill/unscored"] == pytest.approx(1 / 3) and metrics["distill/advantage"] == pytest.approx(2.0)
    teacher[-1] = np.nan
    with pytest.raises(ValueError, match="teacher log-prob"):
        advantage.assign(batch.with_streams(teacher_logprob=teacher, old_logprob=old), np.full(3, np.nan, np.float32))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_teacher_in_context_scores_as_a_plain_forward(
    asked: list[Prompt], batch: Batch, tiny_model: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """The real frozen model actor, whose shared heads would show, against transformers row by row."""
    spec = LearnerSpec(
        kind="causal_lm",
        model_path=str(tiny_model),
        dtype="float32",
        temperature=1.0,
        learner=LearnerConfig(ranks=1, gpus=0),
        total_steps=0,
        seed=0,
        deadline_s=120,
    )
    context = ByLength(set())

    async def score() -> Float32s:
        group = FrozenModelGroup(spec, name="teacher", log_dir=tmp_path, options=lambda _: {"num_cpus": 1})
        await group.start()
        try:
            return await routed(group, tokenizer, context).stream(batch, asked)
        finally:
            await group.close()

    stream = asyncio.run(score())
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    for row, response in enumerate(ANSWERS):
        text = tokenizer.decode(response, skip_special_tokens=True)
        head = tokenizer.apply_chat_template(
            [{"role": "user", "content": "x" * len(text)}], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([[*head, *response]])).logits[0, len(head) - 1 : -1]
        expected = torch.log_softmax(logits, -1)[torch.arange(len(response)), torch.tensor(response)]
        values = stream[batch.offsets[row] : batch.offsets[row + 1]][batch.row(row, "loss_mask")]
        np.testing.assert_allclose(values, expected.numpy(), atol=1e-5)


def test_initial_student_is_a_teacher_when_it_has_a_context() -> None:
    tiny = ["recipe=g_opd", "scale=tiny", "advantage.reward_weight=1", "frozen.teacher.path=''"]
    context = "frozen.teacher.context={_target_: raylign.recipes.g_opd.context.SolutionContext, column: target}"
    assert compose([*tiny, context]).config.frozen["teacher"].context["column"] == "target"
    with pytest.raises(ConfigError, match="student itself"):
        compose(tiny)
    with pytest.raises(ConfigError, match=r"frozen.teacher.context"):
        compose([*tiny, context.replace("column", "colunm")])
    with pytest.raises(ConfigError, match="both must be given, url with http"):
        compose([*tiny, context.replace("SolutionContext, column: target", "CritiqueContext, url: nowhere")])
