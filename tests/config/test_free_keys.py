"""A mapping of keys of one's own that is written whole on the command line: what is written is what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylign.config.compose import compose, layered
from raylign.config.resolve import Run

GENRM = ("recipe=p_genrm", "scale=tiny")
RELATE = ("recipe=relate", "scale=tiny")
MINE = """
from dataclasses import dataclass, field
from raylign.contracts import RewardFunction
class Words(RewardFunction):
    @dataclass
    class Config:
        points: dict[str, float] = field(default_factory=lambda: {"good": 1.0, "bad": -1.0})
        nested: dict[str, dict[str, int]] = field(default_factory=lambda: {"a": {"x": 1}})
    def score(self, prompt, trajectories):
        return []
"""


def config(run: Run, key: str, name: str) -> object:
    value = getattr(run.parts[key].config, name)
    return {key: list(entry) if isinstance(entry, list) else entry for key, entry in value.items()}


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        (("weights={outcome: 2}",), {"outcome": 2}),
        (("={weights: {outcome: 2}}",), {"outcome": 2}),
        (("weights.outcome=2",), {"format": 1, "outcome": 2, "process": 0.5}),
        (("weights={outcome: 2}", "weights.process=3"), {"outcome": 2, "process": 3}),
        (("weights={outcome: 2}", "weights={format: 3}"), {"format": 3}),  # a sweep's point after the words of all
        (("weights={}", "weights.process=3"), {"process": 3}),
    ],
)
def test_a_whole_mapping_replaces_and_an_entry_does_not(words: tuple[str, ...], weights: dict[str, float]) -> None:
    run = compose([*GENRM, *(f"stages.cre{'' if word.startswith('=') else '.'}{word}" for word in words)])
    assert run.weights("cre") == weights


def test_within_parts_too_against_preset_and_class() -> None:
    fields = "rewards.structure.fn.fields={headline: [2,9]}"  # over the recipe's, the scale's and the class's own
    run = compose([*RELATE, fields, "stages.predictor.estimator.fields={headline: h}"])
    assert config(run, "rewards.structure.fn", "fields") == {"headline": [2, 9]}
    assert config(run, "stages.predictor.estimator", "fields") == {"headline": "h"}
    run = compose([*RELATE, "rewards.ctcvr.fn.estimator.fields.title=t"])  # of a node that is another's
    assert config(run, "rewards.ctcvr.fn.estimator", "fields") == {"title": "t", "description": "desc"}
    assert config(run, "stages.predictor.estimator", "fields") == {"title": "title", "description": "desc"}
    words = ["stages.after.measures.diagnosis.categories={all: [facts]}"]
    run = compose(["recipe=quark_medical", "scale=tiny", *words])
    assert config(run, "stages.after.measures.diagnosis", "categories") == {"all": ["facts"]}
    run = compose(["recipe=sci_coe", "scale=tiny", "stages.evolve.weights={correct: 1}"])
    assert run.weights("evolve") == {"correct": 1}
    run = compose(["recipe=rewriter", "scale=tiny", "stages.build.weights={correct: 1}"])  # as its card says
    assert run.weights("build") == {"correct": 1}


def test_sections_and_parts_are_still_merged() -> None:
    run = compose([*RELATE, "rewards.semantic.fn.judge={max_tokens: 5}", "rollout.sampling={top_k: 0}"])
    assert {"model", "max_tokens"} == set(run.parts["rewards.semantic.fn"].config.judge)
    assert run.config.rollout.sampling.max_tokens == 13
    run = compose(["recipe=quark_medical", "scale=tiny", "stages.rl.shaper.factors.risk={facts: {beta: 2}}"])
    assert set(run.parts["stages.rl.shaper"].config.factors.risk) == {"safety", "facts"}
    assert layered(["recipe=grpo", "scale=tiny", "data.task_args={a: 1}"]).config.data.task_args == {"a": 1}


def test_of_a_users_own_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "words_mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["recipe=grpo", "scale=tiny", "run.allow_targets=[words_mine.]", "+rewards.w.fn._target_=words_mine.Words"]
    fn = "+rewards.w.fn"

    def points(*more: str) -> object:
        return config(compose([*words, *more]), "rewards.w.fn", "points")

    assert points() == {"good": 1, "bad": -1}
    assert points(f"{fn}.points={{fine: 2}}") == {"fine": 2} and points(f"{fn}.points={{}}") == {}
    assert points(f"{fn}.points.fine=2") == points("+rewards={w: {fn: {}}}", f"{fn}.points.fine=2")
    assert points(f"{fn}.points.fine=2") == {"good": 1, "bad": -1, "fine": 2}
    run = compose([*words, f"{fn}.nested.a.y=2"])
    assert config(run, "rewards.w.fn", "nested") == {"a": {"x": 1, "y": 2}}
