"""A setting below an interpolated node: the other node but for that key, whatever layer says it, or one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raylign.config.compose import compose, compose_with_problems, layered
from raylign.config.layers import Layers, merge
from raylign.config.overlaid import settle

A = {"_target_": "x.A", "k": 1, "j": {"m": 2, "n": [3]}}


def composed(*layers: dict[str, object]) -> tuple[dict[str, object], list[str]]:
    made = Layers(tree={})
    for number, layer in enumerate(layers):
        made.add(layer, str(number))
    return made.tree, [problem.key for problem in settle(made.tree)]


@pytest.mark.parametrize(
    ("over", "b"),
    [
        ([{"b": {"k": 5}}], {**A, "k": 5}),
        ([{"b": {"j": {"m": 5}}}, {"b": {"j": {"n": [6]}}}], {**A, "j": {"m": 5, "n": [6]}}),
        ([{"b": {"k": 5}}, {"a": {"k": 7, "i": 8}}], {**A, "k": 5, "i": 8}),  # the other node changes later
        ([{"a": {"i": 8}}, {"b": {"k": 5}}], {**A, "k": 5, "i": 8}),
        ([{"b": {"j": {}}}], {**A, "j": {}}),
        ([{"b": {"_target_": "x.A", "k": 5}}], {**A, "k": 5}),
        ([{"b": {"k": 4}}, {"b": {"_target_": "x.B", "l": 5}}], {"_target_": "x.B", "l": 5}),
        ([{"b": {"_target_": "x.B", "l": 5}}, {"b": {"k": 4}}], {"_target_": "x.B", "l": 5, "k": 4}),
        ([{"b": {"k": 4}}, {"b": "${a}"}], "${a}"),
        ([{"b": {"k": 4}}, {"b": None}], None),
        ([{"b": {}}], {}),
        ([{"a": None}, {"b": {"k": 4}}], {"k": 4}),
    ],
)
def test_a_setting_below_an_interpolation_changes_that_key_alone(over: list[dict[str, object]], b: object) -> None:
    tree, problems = composed({"a": A, "b": "${a}"}, *over)
    assert tree["b"] == b and not problems
    assert merge({}, {"a": A})["a"] == A, "the other node is not touched"


def test_chains_and_inner_nodes_are_followed() -> None:
    tree, problems = composed(
        {"a": A, "b": {"c": "${a}"}, "d": "${b}", "e": "${d.c.j}", "f": "${d}"},
        {"e": {"m": 9}, "b": {"c": {"k": 5}}, "f": {"c": {"j": {"m": 8}}}},
    )
    assert not problems and tree["e"] == {"m": 9, "n": [3]} and tree["b"] == {"c": {**A, "k": 5}}
    assert tree["f"] == {"c": {**A, "k": 5, "j": {"m": 8, "n": [3]}}}


@pytest.mark.parametrize("other", ["${nothing}", "${b}", "${c}", "${d}", "${oc.select:a,{}}", "${a}-${a}", "${e}"])
def test_what_cannot_be_copied_is_refused_or_given_whole(other: str) -> None:
    base: dict[str, object] = {"a": A, "b": other, "c": "${d}", "d": "${c}", "e": {"x": "${.y}", "y": 1}}
    assert composed(base, {"b": {"k": 5}})[1] == ["b"]
    whole = {"_target_": "x.B", "k": 5}
    tree, problems = composed(base, {"b": {"j": 4}}, {"b": whole})
    assert tree["b"] == whole and not problems


def test_one_command_line_has_no_order(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    tree = {"advantage": A, "objective": {"_target_": "x.C"}}
    (tmp_path / "recipe" / "mine.yaml").write_text("# @package _global_\n" + yaml.safe_dump(tree))
    words = ["objective.k=5", "objective=${advantage}"]
    for order in (words, words[::-1]):
        assert layered(["recipe=mine", *order], str(tmp_path)).config.objective == {**A, "k": 5}


def test_shipped_nodes_keep_their_other_settings() -> None:
    """Accepted before, and replaced by the defaults of the class, or by nothing."""
    run = compose(["recipe=quark_medical", "scale=tiny", "stages.after.measures.diagnosis.factors.v_max=0.1"])
    factors, of_rl = (run.parts[key].config.factors for key in ("stages.after.measures.diagnosis", "stages.rl.shaper"))
    assert factors.v_max == 0.1 != of_rl.v_max and factors.risk == of_rl.risk and set(factors.risk) == {"safety"}
    words = ["stages.users.strategy.embedder.dimensions=32", "stages.prototypes.estimator.embedder.characters=[1,3]"]
    run = compose(["recipe=p_genrm", "scale=tiny", *words])
    of_users, others = (run.parts[f"stages.{key}.embedder"] for key in ("users.strategy", "prototypes.estimator"))
    assert of_users.config.dimensions == 32 and others.config.dimensions == 64
    assert list(of_users.config.characters) == [1, 3] and list(of_users.config.words) == []
    run = compose(["recipe=rewriter", "scale=tiny", "rewards.rewrite.fn.gate.reasoning={}"])
    assert "rewards.rewrite.fn.gate.reasoning" not in run.parts and "rewards.gate.fn.reasoning" in run.parts
    assert run.parts["rewards.rewrite.fn.gate.answers"].cls is run.parts["rewards.gate.fn.answers"].cls


def test_a_node_without_a_class_is_told_before_the_run() -> None:
    """Also where the field is of a part, alone, by name or in a list."""
    words = ["stages.sft.objective={_target_: '', k: 1}", "+stages.rl.measures.mine.k=1", "selector.parts=[{k: 1}]"]
    chain = "selector._target_=raylign.objectives.selection.Chain"
    _, problems = compose_with_problems(["recipe=bao", "scale=tiny", chain, *words, "+stages.rl.strategy.k=1"])
    told = {problem.key: problem for problem in problems}
    keys = {"stages.sft.objective", "stages.rl.measures.mine", "selector.parts.0", "stages.rl.strategy"}
    assert keys <= set(told), told
    assert all(told[key].why == "a part needs a _target_" and f"{key}._target_=" in told[key].fix for key in keys)
