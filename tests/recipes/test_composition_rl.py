"""The prompt source, its curriculum and restarts; the language-model composer behind a scripted model; overrides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign import testing
from raylign.config.compose import compose
from raylign.data.curriculum import Curriculum, Trigger
from raylign.data.rows import write_rows
from raylign.errors import CheckpointError, ConfigError, DataError
from raylign.models.tiny import build_tiny_model
from raylign.recipes.composition_rl import CompositionSource
from raylign.recipes.composition_rl.compose.chain import Chain
from raylign.recipes.composition_rl.compose.drive import compose_now
from raylign.recipes.composition_rl.compose.recovery import links_recovered
from raylign.recipes.composition_rl.compose.supply import Mode
from raylign.recipes.composition_rl.compose.symbolic import RuleComposer, Style
from raylign.recipes.composition_rl.measures import step_metrics
from raylign.recipes.composition_rl.seeds import SeedPrompts, composed_row
from raylign.recipes.composition_rl.toy import Digits, MarkedAnswer, solution
from raylign.records import Group, Prompt, content_id
from raylign.testing import call, trajectory

FORMULA = {"_target_": "raylign.recipes.composition_rl.SymbolicComposer", "style": "formula", "modulus": 10}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    from raylign.config.schema import TinyModel

    shape = TinyModel(hidden_size=16, layers=1, heads=1, kv_heads=1, head_dim=16, intermediate_size=16, context=256)
    return AutoTokenizer.from_pretrained(build_tiny_model(shape, tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def seeds(tokenizer: Any) -> list[Prompt]:
    return [prompt(tokenizer, row.messages[0]["content"], row.answer, target=row.target) for row in digits()]


def digits() -> list[Any]:
    return list(Digits(Digits.Config()).rows(60, 0))


def prompt(tokenizer: Any, text: str, answer: str, domain: str = "digits", **meta: Any) -> Prompt:
    messages = ({"role": "system", "content": "s"}, {"role": "user", "content": text})
    ids = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)["input_ids"]
    return Prompt(
        id=content_id(text, answer),
        messages=messages,
        token_ids=np.array(ids, np.int32),
        answer=answer,
        domain=domain,
        meta={"verifier": "exact", **meta},
    )


def make(prompts: Sequence[Prompt], tokenizer: Any, seed: int = 1, **config: Any) -> CompositionSource:
    config = {"composer": FORMULA, **config}
    return CompositionSource(CompositionSource.Config(**config), prompts=prompts, seed=seed, tokenizer=tokenizer)


def group(asked: Prompt, scores: Sequence[float], text: str = "") -> Group:
    samples = [trajectory(call(text, 2), rewards={"correct": score}) for score in scores]
    return testing.group(*samples, prompt=asked, scores=scores)


def test_composed_prompts_are_rendered_like_their_last_seed(seeds: list[Prompt], tokenizer: Any) -> None:
    source = make(seeds, tokenizer)
    for asked in source.next(40):
        first, last = (next(p for p in seeds if p.id == seed) for seed in asked.meta["composition"]["seeds"])
        left, right = (p.messages[1]["content"].rstrip("?") for p in (first, last))
        link = asked.meta["composition"]["links"][0]
        assert asked.messages[1]["content"] == f"X={left};{link['relation']};Y{right[1:]}?"
        assert (
            tokenizer.decode(asked.token_ids)
            == f"<|system|>s<|end|><|user|>{asked.messages[1]['content']}<|end|><|assistant|>"
        )
        assert asked.answer == last.answer and asked.domain == "digits" and "target" not in asked.meta
        gold = solution(asked.meta["composition"]["links"], asked.answer)
        assert MarkedAnswer(MarkedAnswer.Config()).judge(asked, gold).score == 1.0
        assert MarkedAnswer(MarkedAnswer.Config()).judge(asked, str(asked.answer)).score == 0.0, "no mark"
        assert links_recovered(gold, asked.meta["composition"]["links"]) == [True]


def test_a_chain_brings_nothing_to_imitate_of_its_seed(seeds: list[Prompt], tokenizer: Any) -> None:
    said = {"target": "#1", "targets": ("#1", "#2"), "demonstration": [{"role": "assistant", "content": "#1"}]}
    asked = [replace(one, meta={**one.meta, **said}) for one in seeds]
    for composed in make(asked, tokenizer).next(5):
        assert composed.meta.keys() == {"verifier", "composition"}


def test_template_stays_around_the_composed_text(tokenizer: Any) -> None:
    asked = [
        prompt(tokenizer, f"Q: {a}+{b}? Box it.", str((a + b) % 10), question=f"{a}+{b}?")
        for a in range(4)
        for b in range(4)
    ]
    for composed in make(asked, tokenizer, candidates=3).next(10):
        content = composed.messages[1]["content"]
        assert content.startswith("Q: X=") and content.endswith("? Box it.") and content.count("Q:") == 1


def test_one_epoch_is_the_surrogate_set_and_the_next_has_another_order(seeds: list[Prompt], tokenizer: Any) -> None:
    source = make(seeds, tokenizer, candidates=5)
    first, second = source.next(300), source.next(300)
    assert len(source) == 300 and {p.visit for p in first} == {0} and {p.visit for p in second} == {1}
    assert {p.id for p in first} == {p.id for p in second} and [p.id for p in first] != [p.id for p in second]
    metrics = source.metrics()
    assert metrics["composer/asked"] == 600 and metrics["composer/yield"] == 1.0 and metrics["seeds/used"] == 1.0
    shares = [value for name, value in metrics.items() if name.startswith("seeds/reuse_") and name != "seeds/reuse_max"]
    assert sum(shares) == pytest.approx(1.0)


def test_restart_hands_out_the_same_prompts(seeds: list[Prompt], tokenizer: Any) -> None:
    whole, broken = make(seeds, tokenizer), make(seeds, tokenizer)
    for source in (whole, broken):
        source.observe([group(asked, [1, 1]) for asked in source.next(7)])
    state = json.loads(json.dumps(broken.state_dict()))
    resumed = make(seeds, tokenizer)
    resumed.load_state_dict(state)
    assert [p.key for p in resumed.next(1300)] == [p.key for p in whole.next(1300)], "across the end of an epoch"
    assert resumed.metrics()["composer/asked"] == whole.metrics()["composer/asked"]
    with pytest.raises(CheckpointError, match="another seed"):
        make(seeds, tokenizer, seed=2).load_state_dict(state)
    with pytest.raises(CheckpointError, match="other data"):
        make(seeds[:30], tokenizer).load_state_dict(state)


def test_too_long_chains_are_dropped_and_counted(seeds: list[Prompt], tokenizer: Any) -> None:
    source = make(seeds, tokenizer, curriculum=Curriculum.Config(depths=[3]), max_prompt_tokens=30, candidates=2)
    with pytest.raises(DataError, match="too_long"):
        source.next(1)
    assert make(seeds, tokenizer, max_prompt_tokens=30).next(3)


def test_domains_choose_the_slots(tokenizer: Any) -> None:
    asked = [
        prompt(tokenizer, f"{a}+{b}?", str((a + b) % 10), domain)
        for domain, a in (("physics", 1), ("math", 2))
        for b in range(9)
    ]
    chains = make(asked, tokenizer, first_domain="physics", last_domain="math", candidates=4).next(36)
    by_id = {p.id: p.domain for p in asked}
    assert {tuple(by_id[seed] for seed in p.meta["composition"]["seeds"]) for p in chains} == {("physics", "math")}
    assert {p.domain for p in chains} == {"math"}, "verifier and teacher are those of the last problem"
    with pytest.raises(DataError, match="no seed has the domain 'chemistry'"):
        make(asked, tokenizer, first_domain="chemistry")


def test_ablation_draws_the_seeds_of_a_slot_once(seeds: list[Prompt], tokenizer: Any) -> None:
    """full/small, small/full and small/small of the paper's ablation: the other slot keeps every seed."""
    for sizes, used in (({"last_size": 5}, 5), ({"first_size": 6}, 60)):
        source = make(seeds, tokenizer, candidates=5, **sizes)
        chains = [p.meta["composition"]["seeds"] for p in source.next(len(source))]
        assert len({chain[-1] for chain in chains}) == used
        assert len({chain[0] for chain in chains}) <= sizes.get("first_size", 60)
    with pytest.raises(DataError, match="70 last seeds are asked for and there are 60"):
        make(seeds, tokenizer, last_size=70)


def test_made_set_is_read_from_its_file(seeds: list[Prompt], tokenizer: Any, tmp_path: Path) -> None:
    ids, chains = {p.id for p in seeds}, [*SeedPrompts(seeds, tokenizer).chains.values()]
    composer = RuleComposer(RuleComposer.Config(style=Style.formula, modulus=10))
    rows = [compose_now(composer, chains[i], chains[i + 1]) for i in range(20)]
    records = [row.record() for row in rows if isinstance(row, Chain)]
    by_id = {p.id: p for p in seeds}
    write_rows(tmp_path / "set.jsonl", [composed_row(by_id[record["seeds"][-1]], record) for record in records])
    (tmp_path / "bare.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    bare = make(seeds, tokenizer, path=str(tmp_path / "bare.jsonl"))
    again = make(seeds, tokenizer, path=str(tmp_path / "set.jsonl"))
    assert len(again) == 20 and all(p.meta["composition"]["seeds"][1] in ids for p in again.next(20))
    assert [p.id for p in bare.next(40)[20:]] == [p.id for p in again.next(20)]
    write_rows(tmp_path / "others.jsonl", digits())
    with pytest.raises(DataError, match=r"others.jsonl:1: no composed problem"):
        make(seeds, tokenizer, path=str(tmp_path / "others.jsonl"))
    with pytest.raises(DataError, match="none of 20 rows ends with a seed"):
        make(seeds[40:], tokenizer, path=str(tmp_path / "set.jsonl"))


# ------------------------------------------------------------------------------------------------------ curriculum


def test_depth_rises_when_solve_all_stays_high(seeds: list[Prompt], tokenizer: Any) -> None:
    rule = Curriculum.Config(depths=[1, 2], trigger=Trigger.solve_all, solve_all_above=0.6, solve_all_steps=3)
    source = make(seeds, tokenizer, curriculum=rule)
    for step, solved in enumerate((3, 2, 3, 3, 3)):
        asked = source.next(4)
        assert {p.meta["composition"]["depth"] for p in asked} == {1}, step
        source.observe([group(p, [1, 1] if n < solved else [1, 0]) for n, p in enumerate(asked)])
    assert source.metrics()["solve_all"] == 0.75 and source.metrics()["depth"] == 1
    asked = source.next(4)
    assert {p.meta["composition"]["depth"] for p in asked} == {2}
    source.observe([group(p, [0, 0]) for p in asked])
    metrics = source.metrics()
    assert (metrics["solve_all"], metrics["solve_none"], metrics["informative"], metrics["depth"]) == (0, 1, 0, 2)
    resumed = make(seeds, tokenizer, curriculum=rule)
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    assert [p.key for p in resumed.next(9)] == [p.key for p in source.next(9)]


# ---------------------------------------------------------------------------------------------------------- online


def test_online_composes_what_the_policy_masters(seeds: list[Prompt], tokenizer: Any) -> None:
    source = make(seeds, tokenizer, mode=Mode.online)
    first = source.next(60)
    assert {p.meta["composition"]["depth"] for p in first} == {1}
    mastered = {p.id for p in first[:20]}
    source.observe([group(p, [1, 1, 1] if p.id in mastered else [1, 0, 1]) for p in first])
    state = json.loads(json.dumps(source.state_dict()))
    second = source.next(60)
    for asked in second:
        *before, last = asked.meta["composition"]["seeds"]
        assert asked.meta["composition"]["depth"] == (2 if last in mastered else 1)
        assert set(before) <= mastered and last not in before
    assert source.metrics()["mastered"] == pytest.approx(1 / 3)
    resumed = make(seeds, tokenizer, mode=Mode.online)
    resumed.load_state_dict(state)
    assert [p.key for p in resumed.next(60)] == [p.key for p in second]


def test_metrics_count_before_filtering_and_read_v1_by_rule(seeds: list[Prompt], tokenizer: Any) -> None:
    asked = make(seeds, tokenizer).next(2)
    right = solution(asked[0].meta["composition"]["links"], asked[0].answer)
    groups = [group(asked[0], [1, 1], right), group(asked[1], [0, 1], "X=?;#1"), group(seeds[0], [0, 0])]
    metrics = step_metrics(groups, "")
    assert metrics["solve_all"] == metrics["solve_none"] == pytest.approx(1 / 3)
    assert metrics["accuracy/depth_2"] == 0.75 and metrics["accuracy/depth_1"] == 0.0
    assert metrics["v1_recovered"] == 0.5 and metrics["length/depth_2"] == 2.0
    assert metrics["lucky"] == pytest.approx(1 / 3), "one of three solved chains never states the right v1"


@pytest.mark.parametrize(
    ("text", "value", "stated"),
    [
        ("so $X = \\frac{7}{15}$.", "\\frac{7}{15}", True),
        ("X is 2.", "2", True),
        ("X=2;Y=3", "3", False),
        ("MAX=3; X: 4", "4", True),
        ("we find $X = 2\\pi$", "2 \\pi", True),
        ("no value", "1", False),
    ],
)
def test_stated_values(text: str, value: str, stated: bool) -> None:
    assert links_recovered(text, [{"symbol1": "X", "value1": value}]) == [stated]


# ---------------------------------------------------------------------------------------------------- configuration


def test_paper_values_above_tiny_and_toy_values_at_tiny() -> None:
    model = ["model.path=", "model.tiny.context=32768", "data.task=basic_arithmetic", "data.size=64", "data.holdout=8"]
    node = compose(["recipe=composition_rl", "scale=node", *model]).config
    rl = node.stages["rl"]
    assert (rl["prompts_per_step"], rl["group_size"], rl["dynamic_sampling"]) == (256, 8, True)
    assert node.learner.optim.lr == 1e-6 and node.rollout.sampling.max_tokens == 16384
    assert node.objective["mismatch"] == {"mode": "truncate", "high": 2.0}
    evaluation = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 28672}
    assert node.stages["before"]["sampling"] == node.stages["after"]["sampling"] == evaluation
    tiny = compose(["recipe=composition_rl", "scale=tiny"]).config
    assert tiny.stages["after"]["greedy"] and tiny.stages["after"]["sampling"] is None
    assert tiny.stages["rl"]["prompts_per_step"] == 48 and tiny.source["max_prompt_tokens"] == 40


def test_source_composes_with_another_recipe_by_overrides_alone() -> None:
    source = "source={_target_: raylign.recipes.composition_rl.CompositionSource, curriculum: {depths: [2]}}"
    config = compose(["recipe=grpo", "scale=tiny", source]).config
    assert config.source["curriculum"] == {"depths": [2]}
    with pytest.raises(ConfigError, match="candidate"):
        compose(["recipe=grpo", "scale=tiny", source.replace("curriculum: {depths: [2]}", "candidate: 3")])
