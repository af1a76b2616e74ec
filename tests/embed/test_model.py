"""Vectors from hidden states of the tiny model, against transformers by hand; and the extra that may be absent."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.embed import ModelEmbedder, SentenceEmbedder
from raylign.config.build import build
from raylign.config.compose import compose
from raylign.config.schema import Node, Pooling, node
from raylign.contracts import Embedder, RewardFunction
from raylign.errors import ConfigError, LoadError, RequestError
from raylign.models.hidden_states import HiddenStates
from raylign.records import Prompt, Trajectory, Value


class Near(RewardFunction):
    """Cosine of response and answer."""

    @dataclass
    class Config:
        """By which vectors."""

        embedder: Node = node(Embedder)

    def __init__(self, config: Config) -> None:
        self._embedder = build(Embedder, config.embedder, "embedder")

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        vectors = self._embedder.embed([str(prompt.answer), *(trajectory.text for trajectory in trajectories)])
        return [Value(score=float(cosine)) for cosine in vectors[1:] @ vectors[0]]


TEXTS = ["a", "two words", "", "longer " * 9, "two words", "x" * 40]


def embedder(path: Path, cache: Path, **settings: Any) -> ModelEmbedder:
    return ModelEmbedder(ModelEmbedder.Config(path=str(path), cache_dir=str(cache), **settings))


@pytest.mark.parametrize("pooling", list(Pooling))
def test_vectors_are_pooled_states_of_each_text_alone(pooling: Pooling, tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    expected = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"] or [tokenizer.eos_token_id]
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0].double().numpy()
        pooled = states.mean(0) if pooling is Pooling.mean else states[-1]
        expected.append(pooled / np.linalg.norm(pooled))
    vectors = embedder(tiny_model, tmp_path, pooling=pooling).embed(TEXTS)
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    alone = embedder(tiny_model, tmp_path / "other", pooling=pooling)
    np.testing.assert_allclose(np.concatenate([alone.embed([text]) for text in TEXTS]), vectors, atol=2e-6)
    np.testing.assert_allclose(vectors[1] @ vectors[4], 1, atol=1e-6)
    again = embedder(tiny_model, tmp_path, pooling=pooling)
    np.testing.assert_array_equal(again.embed(TEXTS[::-1]), vectors[::-1])
    assert again.counts.computed == 0 and again.counts.hits == len(TEXTS)


def test_other_weights_pooling_and_limits_are_other_vectors(tiny_model: Path, tmp_path: Path) -> None:
    moved, changed = tmp_path / "moved", tmp_path / "changed"
    shutil.copytree(tiny_model, moved), shutil.copytree(tiny_model, changed)
    weights = bytearray((changed / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (changed / "model.safetensors").write_bytes(weights)
    own = embedder(tiny_model, tmp_path).identity
    assert embedder(moved, tmp_path).identity == own
    others = [{"path": changed}, {"pooling": Pooling.last}, {"max_tokens": 9}, {"dtype": "bfloat16"}]
    made = (embedder(**{"path": tiny_model, "cache": tmp_path, **settings}) for settings in others)
    assert len({own, *(other.identity for other in made)}) == 5


def test_what_is_not_read_of_a_text_is_counted_or_refused(tiny_model: Path, tmp_path: Path) -> None:
    short = embedder(tiny_model, tmp_path, max_tokens=5)
    vectors = short.embed(["abcde", "abcdefg", "ab"])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert short.counts.cut == 1
    strict = HiddenStates(str(tiny_model), pooling=Pooling.mean, max_tokens=5, cuts=False)
    with pytest.raises(RequestError, match="a text has 7 tokens, and at most 5 are read: 'abcdefg'"):
        strict(["abcdefg"])


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LoadError, match="makes no model whose hidden states can be read"):
        HiddenStates(str(tmp_path), pooling=Pooling.mean, max_tokens=5)


def test_sentence_transformers_are_an_extra(tmp_path: Path) -> None:
    if importlib.util.find_spec("sentence_transformers") is not None:
        pytest.skip("sentence-transformers is installed")
    with pytest.raises(
        ConfigError, match=r"is an extra and not installed\n.*pip install 'raylign\[sentence-transformers\]'"
    ):
        SentenceEmbedder(SentenceEmbedder.Config(path="x"))


def test_sentence_transformers_give_their_own_vectors(tiny_model: Path, tmp_path: Path) -> None:
    sentences = pytest.importorskip("sentence_transformers")
    made = SentenceEmbedder(SentenceEmbedder.Config(path=str(tiny_model), cache_dir=str(tmp_path)))
    vectors = made.embed(TEXTS[:2])
    own = sentences.SentenceTransformer(str(tiny_model), device="cpu").encode(TEXTS[:2], normalize_embeddings=True)
    np.testing.assert_allclose(vectors, own, atol=1e-5)


def test_an_embedder_needs_a_model_that_embeds() -> None:
    served = "{_target_: raylign.actors.judge.served.Served, name: base}"
    node = f"{{_target_: raylign.actors.embed.ServedEmbedder, model: {served}}}"
    run = ["recipe=grpo", "scale=tiny", f"+rewards.correct.fn.embedder={node}", "+judges.base={}"]
    run[2] = f"rewards.near={{fn: {{_target_: {__name__}.Near, embedder: {node}}}}}"
    run.append(f"run.allow_targets=[{__name__}.]")
    with pytest.raises(
        ConfigError, match=r"judges\.base\.verbs = \['complete'\].*\n *fix: set judges\.base\.verbs=\[complete,embed\]"
    ):
        compose(run)
    compose([*run, "judges.base.verbs=[embed]"])
    compose([*run, "judges.base.verbs=[complete,embed]"])
    with pytest.raises(ConfigError, match=r"rewards\.near\.fn\.embedder\.model\._target_ = Scripted: cannot embed"):
        compose(
            [*run[:2], run[2].replace("served.Served, name: base", "scripted.Scripted, function: raylign.x.y"), run[4]]
        )


def test_a_text_that_is_cut_keeps_the_end_that_its_tokenizer_writes(tiny_model: Path, tmp_path: Path) -> None:
    """As Qwen3-Embedding, whose vector is the state at that token."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    model = tmp_path / "ends"
    shutil.copytree(tiny_model, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {end[0]}", special_tokens=[end])
    tokenizer.save_pretrained(model)
    states = HiddenStates(str(model), pooling=Pooling.last, max_tokens=4)
    assert states._ids("abcdefgh") == [*tokenizer("abc", add_special_tokens=False)["input_ids"], end[1]]
    assert states._ids("ab") == tokenizer("ab")["input_ids"] and states.cut == 1
