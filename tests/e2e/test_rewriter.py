"""The rewriter through the command line: a LoRA policy, a base that scores and embeds, a built set, SFT on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rewriter_gate import even, unasked
from safetensors.torch import load_file
from short_runs import lines, steps, train
from transformers import AutoModelForCausalLM, AutoTokenizer

from raylign.chat.template import ChatTemplate

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
FUNCTION = "{_target_: raylign.actors.reward.python.PythonFunction, path: rewriter_gate.%s}"
SMALL = [
    "recipe=rewriter",
    "scale=tiny",
    "seed=3",
    "run.allow_targets=[rewriter_gate.]",
    "data.size=80",
    "data.holdout=8",
    "stages.base.steps=60",
    "stages.warm.steps=20",
    "stages.rewrite.steps=2",
    "stages.rewrite.prompts_per_step=4",
    "stages.sft.steps=2",
    "stages.sft.optim.lr=1e-9",  # the tuned model stays where it starts
    f"rewards.gate.fn.answers={FUNCTION % 'even'}",
    f"rewards.gate.fn.reasoning={FUNCTION % 'unasked'}",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages of the recipe."""
    folder = tmp_path_factory.mktemp("rewriter") / "run"
    train(folder, SMALL)
    return folder


class Base:
    """The frozen base model, computed by transformers."""

    def __init__(self, folder: Path) -> None:
        path = folder / "stages" / "base" / "model"
        self.model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.template = ChatTemplate(self.tokenizer)

    def loss(self, question: str, ids: list[int]) -> float:
        """Mean NLL of these ids after the bare question."""
        before = self.template.prompt_ids(({"role": "user", "content": question},))
        with torch.no_grad():
            logits = self.model(torch.tensor([[*before, *ids]])).logits[0, len(before) - 1 : -1].double()
        return -float(torch.log_softmax(logits, -1)[range(len(ids)), ids].mean())

    def vector(self, text: str) -> np.ndarray:
        """Mean of the last hidden states, of length 1."""
        with torch.no_grad():
            ids = torch.tensor([self.tokenizer(text)["input_ids"]])
            states = self.model.model(input_ids=ids).last_hidden_state[0].double()
        mean: np.ndarray = (states.mean(0) / states.mean(0).norm()).numpy()
        return mean


@pytest.fixture(scope="module")
def groups(run: Path) -> list[list[dict[str, Any]]]:
    """The recorded samples of the rewriting stage, by step and prompt."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for path in sorted((run / "rollouts").glob("*.jsonl")):
        for row in lines(path):
            if row["stage"] == "rewrite":
                found.setdefault((row["step"], row["prompt"]), []).append(row)
    return list(found.values())


def test_every_reward_follows_from_the_base_model_and_the_sampled_ids(run: Path, groups: Any) -> None:
    base, compared = Base(run), 0
    assert len(groups) == 8 and all(len(group) == 8 for group in groups)
    for group in groups:
        details = [row["rewards"]["rewrite"]["details"] for row in group]
        passed = [float(even("", row["text"], "") and unasked("", row["text"], "")) for row in group]
        assert [detail["passed"] for detail in details] == passed
        inside = [number for number, t in enumerate(passed) if t]
        question = group[0]["messages"][-1]["content"].partition("?")[0] + "?"
        losses = [base.loss(question, group[n]["turns"][0]["token_ids"]) for n in inside]
        np.testing.assert_allclose([details[n]["nll"] for n in inside], losses, atol=2e-4)
        mean, deviation = (np.mean(losses), np.std(losses)) if len(losses) > 1 else (np.mean(losses or 0), 1.0)
        r_dist = 1 / (1 + np.exp((np.array(losses) - mean) / (deviation + 2e-6)))
        vectors = np.array([base.vector(group[n]["text"]) for n in inside])
        r_div = np.array([max(0.0, spread(vectors) - spread(np.delete(vectors, i, 0))) for i in range(len(inside))])
        r_div = r_div if len(inside) > 1 else 0 * r_div
        expected = np.zeros(len(group))
        expected[inside] = 1 + 0.35 * r_dist + 0.5 * r_div
        np.testing.assert_allclose([row["score"] for row in group], expected, atol=2e-3)
        compared += len(inside)
    assert compared > 10, "hardly anything passed"


def spread(vectors: np.ndarray) -> float:
    if len(vectors) < 2:
        return 0.0
    return float(np.mean((1 - (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]) / 2))


def test_the_policy_reads_the_rewriting_prompt(groups: Any) -> None:
    for group in groups:
        for row in group:
            assert "?see <" in row["messages"][-1]["content"]
            assert row["gap"] is None or np.abs(np.atleast_1d(row["gap"])).max() < 1e-3


def test_the_built_set_is_as_long_as_its_input(run: Path) -> None:
    rows = lines(run / "stages" / "build" / "rows.jsonl")
    origins = [row["meta"]["generated"]["from"] for row in rows]
    assert len(rows) == len({row["messages"][-1]["content"] for row in rows}) == 72
    for row, origin in zip(rows, origins, strict=True):
        assert row["messages"][-1]["content"].endswith("?")
        if origin == "prompt":
            assert row["target"].startswith("see <") and row["target"].endswith(f"|{row['answer']}>")
        else:
            assert even("", row["target"], "") and unasked("", row["target"], "")
    fallen_back = sum(row["generate/fallback"] * row["generate/prompts"] for row in steps(run, "build"))
    assert fallen_back == pytest.approx(origins.count("prompt"))


def test_the_tuned_model_starts_from_the_base_and_adapters_are_kept(run: Path) -> None:
    base, tuned, rewriter = (
        load_file(run / "stages" / name / "model" / "model.safetensors") for name in ("base", "sft", "rewrite")
    )
    assert all(torch.allclose(base[name], tuned[name], atol=1e-6) for name in base)
    assert not all(torch.allclose(base[name], rewriter[name], atol=1e-6) for name in base)
    assert (run / "stages" / "rewrite" / "model" / "adapter" / "adapter_model.safetensors").exists()


def test_every_figure_of_the_digest_is_logged(run: Path) -> None:
    names = set().union(*steps(run, "rewrite"))
    terms = {f"rewriter/{term}{end}" for term in ("distribution", "diversity") for end in ("", "_std")}
    wanted = terms | {
        "rewriter/passed",
        "rewriter/answer",
        "rewriter/reasoning",
        "rewriter/m",
        "rewriter/m_below_2",
        *(f"rewriter/m/{number}" for number in range(9)),
        "rewriter/nll",
        "rewriter/nll_expert",
        "rewriter/not_finite",
        "rewriter/spread",
        *(f"rewriter/share/{term}" for term in ("gate", "distribution", "diversity")),
        "ref_kl",
        "length/mean",
        "missing/rewrite",
    }
    assert not wanted - names
    (after,), (before,) = steps(run, "general"), steps(run, "general_before")
    for task in ("copy", "reverse", "sort", "parity", "mean"):
        forgotten = before[f"eval/tasks/{task}"] - after[f"eval/tasks/{task}"]
        assert after[f"eval/forgetting/{task}"] == pytest.approx(forgotten)
    assert {"eval/score"} <= set(steps(run, "downstream")[0])
    table = lines(run / "stages" / "general" / "measures" / "forgetting.jsonl")
    assert [row["task"] for row in table] == ["copy", "parity", "reverse", "sort"]
