"""A served judge on real Ray and vLLM: reached by name, constrained to JSON, killed and back again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylign.actors.embed import ModelEmbedder, ServedEmbedder
from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.judge.group import JudgeGroup
from raylign.actors.judge.served import Served
from raylign.actors.judge.worker import JudgeSpec, JudgeWorker
from raylign.actors.remote import kill, spawn
from raylign.actors.rollout.engine import EngineSpec
from raylign.chat.template import ChatTemplate
from raylign.config.schema import JudgeConfig, Verb
from raylign.contracts import Sampling
from raylign.errors import JudgeUnavailable

pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.timeout(600)]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "boolean"}}, "required": ["answer"]}
QUESTION = ({"role": "user", "content": "Is it?"},)
NODE: dict[str, Any] = {"model": {"_target_": "raylign.actors.judge.served.Served", "name": "tiny"}, "max_tokens": 24}


@pytest.fixture(scope="module")
def group(ray_session: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JudgeGroup]:
    config = JudgeConfig(
        gpus=0, workers=1, max_context=128, max_sequences=16, kv_cache_gb=0.25, max_restarts=1, verbs=list(Verb)
    )
    made = JudgeGroup(
        "tiny",
        config,
        str(tiny_model),
        dtype="float32",
        log_dir=tmp_path_factory.mktemp("logs"),
        deadline_s=300,
    )
    made.scores_for(str(tiny_model))
    asyncio.run(made.start())
    yield made
    asyncio.run(made.close())


def ask(words: str = "Is it?", **settings: Any) -> bool:
    judge = BlockingJudge({**NODE, **settings})
    messages = ({"role": "user", "content": words},)
    return judge(lambda client: client.ask(messages, lambda value: bool(value["answer"]), SCHEMA)).value


def test_answers_are_json_whatever_the_weights(group: JudgeGroup) -> None:
    assert ask() in (True, False)
    reply = asyncio.run(_complete(Sampling(max_tokens=24, structure={"json": SCHEMA}), 3))
    assert isinstance(json.loads(reply)["answer"], bool)
    assert reply == asyncio.run(_complete(Sampling(max_tokens=24, structure={"json": SCHEMA}), 3))


def test_any_process_of_the_job_reaches_it(group: JudgeGroup) -> None:
    @ray.remote(num_cpus=0)
    def elsewhere() -> bool:
        judge = BlockingJudge(NODE)
        answer = judge(lambda client: client.ask(QUESTION, lambda value: bool(value["answer"]), SCHEMA))
        return isinstance(answer.value, bool)

    assert ray.get(elsewhere.remote(), timeout=300)


def test_scores_and_vectors_are_those_of_the_model(group: JudgeGroup, tiny_model: Path, tmp_path: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer("the very same ids", add_special_tokens=False)["input_ids"]
    asked = ChatTemplate(tokenizer).prompt_ids(QUESTION)
    bare = tokenizer("bare", add_special_tokens=False)["input_ids"]
    client = BlockingJudge(NODE)
    for before, ahead in ((QUESTION, asked), (bare, bare), (np.array(bare[:1], np.int32), bare[:1])):
        with torch.no_grad():
            logits = model(torch.tensor([[*ahead, *ids]])).logits[0, len(ahead) - 1 : -1]
        expected = torch.log_softmax(logits.double(), -1)[range(len(ids)), ids].numpy()
        scored = client(lambda judge, before=before: judge.score(before, ids)).value  # type: ignore[misc]
        np.testing.assert_allclose(scored, expected, atol=2e-5)
    embedder = ServedEmbedder(ServedEmbedder.Config(model=NODE["model"], cache_dir=str(tmp_path)))  # type: ignore[arg-type]
    own = ModelEmbedder(ModelEmbedder.Config(path=str(tiny_model), cache_mb=0))
    texts = ["a", "two words", "", "two words"]
    vectors = embedder.embed(texts)
    np.testing.assert_allclose(vectors, own.embed(texts), atol=2e-6)
    assert str(tiny_model) in embedder.identity and "mean" in embedder.identity
    with pytest.raises(JudgeUnavailable, match=r"refuses the request: a text has .* at most 128 are read"):
        embedder.embed(["long " * 200])
    with pytest.raises(JudgeUnavailable, match=r"refuses the request: the sequence to score has .* at most 127 fit"):
        client(lambda judge: judge.score(QUESTION, ids * 20))
    spelled = client(lambda judge: judge.model.tokens_of("the very same ids"))
    assert spelled == ids
    with pytest.raises(JudgeUnavailable, match="needs something before the ids"):
        client(lambda judge: judge.score([], ids))


def test_a_conversation_that_does_not_fit_is_unavailable_at_once(group: JudgeGroup) -> None:
    with pytest.raises(JudgeUnavailable, match="refuses the request"):
        ask("long " * 100)


def test_a_killed_worker_comes_back_and_a_second_death_is_the_end(group: JudgeGroup) -> None:
    before = asyncio.run(group.pids())
    os.kill(before[0], signal.SIGKILL)
    assert ask("after the death") in (True, False)
    after = asyncio.run(group.pids())
    assert after != before
    os.kill(after[0], signal.SIGKILL)
    model = {"_target_": "raylign.actors.judge.served.Served", "name": "tiny", "patience_s": 2}
    with pytest.raises(JudgeUnavailable, match=r"judges\.tiny is gone"):
        ask("after the second death", model=model)


def test_a_judge_whose_folder_cannot_be_read_any_more_fails_at_once(
    ray_session: None, tiny_model: Path, tmp_path: Path
) -> None:
    """A worker loads at its first request, as one that Ray has restarted does."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "config.json").write_text("{")
    engine = EngineSpec(model_path=str(folder), dtype="float32", max_context=128, max_sequences=1)
    spec, options = JudgeSpec(log_path=str(tmp_path / "log"), engine=engine), {"num_cpus": 0.1}
    actor = spawn(JudgeWorker, spec, options=options, threads=1, gpu=False, health=True, name="judge/spoilt/0")
    model, began = {**NODE["model"], "name": "spoilt"}, time.monotonic()
    try:
        for words in ("once", "twice"):
            with pytest.raises(
                JudgeUnavailable, match=r"judges\.spoilt is gone for good: its model cannot be loaded: "
            ):
                ask(words, model=model)
        assert time.monotonic() - began < 100, "the patience is 300 s"
    finally:
        kill(actor)


def test_a_judge_that_nobody_serves_is_unavailable(ray_session: None) -> None:
    model = {"_target_": "raylign.actors.judge.served.Served", "name": "nobody", "patience_s": 1}
    with pytest.raises(JudgeUnavailable, match="no worker of that name"):
        ask(model=model)


async def _complete(sampling: Sampling, seed: int) -> str:
    served = Served(Served.Config(name="tiny"))
    return (await served.complete(QUESTION, sampling, seed)).text
