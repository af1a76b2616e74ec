"""RELATE's parts: spans on real ads, rules and judges, histories that are resumed, and settings that do not fit."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from relate_cases import (
    BANNED,
    TOY_FIELDS,
    asked,
    judge,
    on_ads,
    rewarded,
    said,
    semantics,
    shaper,
)

from raylign.actors.reward.outcome import Failed
from raylign.actors.reward.validate import validate
from raylign.actors.reward.worker import RewardWorker
from raylign.chat.spans import on_tokens, token_ranges
from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose, compose_with_problems
from raylign.errors import CheckpointError, ConfigError, DataError
from raylign.loop.part_state import restore_parts, save_parts
from raylign.loop.scoring import logged, scored
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.relate import AdFigures, Structure
from raylign.recipes.relate.phrases import product_of
from raylign.recipes.relate.semantics import Semantics, united
from raylign.recipes.relate.toy import Ads, chances
from raylign.records import Missing, Span, Value
from raylign.testing import call, group, prompt, trajectory

TINY = ["recipe=relate", "scale=tiny"]


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    """One byte is one token."""
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


# ------------------------------------------------------------------------------------------- spans on real ads


@pytest.fixture(scope="module")
def japanese(shared_data: Callable[[str], Path]) -> list[str]:
    with shared_data("adparaphrase/main_2000.csv").open(encoding="utf-8") as file:
        return [row["ad2"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def merged(japanese: list[str]) -> ChatTemplate:
    """A byte-level BPE of these ads, whose tokens are several letters, or parts of one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=["<|end|>"], show_progress=False)
    core.train_from_iterator(japanese, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    return ChatTemplate(tokenizer)


@pytest.mark.parametrize("name", ["template", "merged"])
def test_marked_words_of_real_ads_are_covered_and_nothing_else_is(
    name: str, japanese: list[str], request: pytest.FixtureRequest
) -> None:
    """1,000 random spans: a token is marked if and only if it wrote a part of what was marked."""
    tokenizer: ChatTemplate = request.getfixturevalue(name)
    rng, several, parts = np.random.default_rng(11), 0, 0
    for number in range(1000):
        text = japanese[int(rng.integers(len(japanese)))]
        start = int(rng.integers(len(text)))
        end = int(rng.integers(start + 1, len(text) + 1))
        ids = tokenizer.codec.encode(text)
        offsets = tokenizer.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        assert tokenizer.text_of(ids) == text and len(offsets) == len(ids)
        marked = on_tokens(token_ranges(tokenizer, ids), [Span(start, end, -1.0)])
        wanted = [-1.0 if first < end and last > start else 0.0 for first, last in offsets]
        assert marked.tolist() == wanted, f"{number}: {text!r} [{start}, {end})"
        several += any(last - first > 1 for first, last in offsets)
        parts += len(set(offsets)) < len(offsets)
    assert parts > 500 and (name == "template" or several > 500)


def test_rules_mark_phrases_of_real_ads(japanese: list[str], template: ChatTemplate) -> None:
    reward = semantics(banned=["no.1", "最大"], whole_words=True)
    hits = 0
    for text in japanese:
        (value,) = reward.score(prompt(text=text), [said(template, text)])
        places = [text[a:b].lower() for a, b in value.details["spans"].get("risk", [])]
        assert all(place in ("no.1", "最大") for place in places)
        assert bool(places) == ("no.1" in text.lower().replace("no.10", "") or "最大" in text)
        assert value.details["failed"] == (["risk"] if places else []), "numbers are those of the prompt"
        hits += bool(places)
    assert hits >= 20


# ------------------------------------------------------------------------------------------ rules, and the judge


@pytest.mark.parametrize(
    ("settings", "facts", "text", "failed"),
    [
        ({"banned": ["best"]}, "shoes", "The BEST shoes, bestow", {"risk": ["BEST"]}),
        ({"banned": ["best", "best price ever"]}, "", "best price ever", {"risk": ["best price ever"]}),
        ({"banned": ["ab", "bc"], "whole_words": False}, "", "xabcx", {"risk": ["abc"]}),
        ({"banned": ["aa"], "whole_words": False}, "", "aaaa", {"risk": ["aaaa"]}),
        ({"claims": ["waterproof", "vegan"]}, "vegan boots", "waterproof vegan", {"relevance": ["waterproof"]}),
        ({"claims": ["最安"]}, "靴", "業界最安の靴", {"relevance": ["最安"]}),
        ({}, "open 24 hours, 3,000 yen", "24 hours for 3,000 or 300 yen", {"correctness": ["300"]}),
        ({}, "1000円、24時間", "1,000円で\uff12\uff14時間、2.5倍", {"correctness": ["2.5"]}),
        ({}, "15 kg Tasche", "nur 1,5 kg", {"correctness": ["1,5"]}),
        ({}, "1,5 kg", "nur 15 kg", {"correctness": ["15"]}),
        ({}, "1.5 kg", "nur 1,5 kg", {}),
        ({}, "Preis 1000 Euro", "1.000, 1 000, 1'000 oder 1,000 Euro", {}),
        ({}, "1.000.000,50", "1000000.50 oder 1000000", {"correctness": ["1000000"]}),
        ({}, "0.125 mg", "0,125 oder 125 mg", {"correctness": ["125"]}),
        ({}, "2,500 yen", "2.5 yen", {"correctness": ["2.5"]}),
        ({}, "3 packs of 500 ml", "3 500 ml packs, 3 600 more", {"correctness": ["3 600"]}),
        ({}, "1,2,3 days", "2 or 123 days", {"correctness": ["123"]}),
        ({}, "50 sqm", "50 m\u00b2", {}),
        ({"banned": ["cur"]}, "", "le cur\u00e9 et le cur", {"risk": ["cur"]}),
        ({"banned": ["\u00fcber"]}, "", "dar\u00fcber, \u00dcber", {"risk": ["\u00dcber"]}),
        (
            {"banned": ["No.1"], "numbers": False},
            "",
            "\uff2e\uff4f\uff0e\uff11 choice",
            {"risk": ["\uff2e\uff4f\uff0e\uff11"]},
        ),
        ({"banned": ["\uff2e\uff4f\uff0e\uff11"], "numbers": False}, "", "a no.1 no.10", {"risk": ["no.1"]}),
        ({"banned": ["No.1"], "numbers": False}, "", "業界No.1の靴", {"risk": ["No.1"]}),
        ({"claims": ["vegan"]}, "\uff36\uff25\uff27\uff21\uff2e boots", "vegan", {}),
        ({"numbers": False}, "", "300 yen", {}),
        ({"banned": ["a.b"]}, "", "axb", {}),
        ({"banned": ["best"]}, "", "", {}),
    ],
)
def test_rules_find_what_is_to_blame(settings: Any, facts: str, text: str, failed: Any) -> None:
    reward = semantics(**{"whole_words": True, **settings})
    (value,) = reward.score(prompt(text=facts or "nothing"), [trajectory(text)])
    assert {check: [text[a:b] for a, b in places] for check, places in value.details["spans"].items()} == failed
    assert value.score == float(not failed) and value.spans is not None
    blamed = [(words, -1.0) for of_check in failed.values() for words in of_check]
    assert [(text[span.start : span.end], span.score) for span in value.spans[0]] == blamed


def test_phrases_of_a_products_own_column_are_forbidden() -> None:
    reward, ad = semantics(forbidden="never"), [trajectory("a cure")]
    (value,) = reward.score(prompt(meta={"never": ["cure"]}), ad)
    assert value.details["failed"] == ["risk"]
    with pytest.raises(DataError, match="the column 'never' must be a list of phrases, not 'None'"):
        reward.score(prompt(), ad)


def test_spans_of_a_judge_are_placed_once_each_or_blame_the_whole_text() -> None:
    def place(reply: dict[str, Any], text: str = "up up and away") -> Value:
        reward = semantics(judge=judge("raylign.actors.judge.scripted.echo"), numbers=False)
        passes = {"correctness": "pass", "relevance": "pass", "risk": "pass", "spans": []}
        reward._judge = lambda work: _answer({**passes, **reply}, work)  # type: ignore[assignment]
        (value,) = reward.score(prompt(), [trajectory(call(text, 5))])
        return value

    def _answer(reply: dict[str, Any], work: Any) -> Any:
        from raylign.actors.judge.client import Answer, JudgeCounts
        from raylign.recipes.relate.verdicts import read_verdicts

        return Answer(value=read_verdicts(reply), counts=JudgeCounts(asked=1))

    up = {"check": "risk", "text": "up"}
    twice = place({"risk": "fail", "spans": [up, up, up]})
    assert twice.details["spans"] == {"risk": [(0, 2), (3, 5)]} and twice.details["unmatched"] == 1
    nowhere = place({"risk": "fail", "spans": [{"check": "risk", "text": "down"}]})
    assert nowhere.details["unplaced"] == ["risk"] and nowhere.spans == ((Span(0, 14, -0.2),),) and nowhere.score == 0
    bare = place({"relevance": "fail"})
    assert bare.spans == ((Span(0, 14, -0.2),),) and bare.details["failed"] == ["relevance"]
    odd = place({"spans": [up, {"check": "taste", "text": "away"}]})
    assert odd.score == 1 and odd.details["dropped"] == 2 and odd.spans == ((),)
    assert place({"risk": "fail"}, "").spans == ((),)


def test_spans_of_one_check_that_touch_count_once() -> None:
    assert united([(4, 6), (0, 2), (2, 3), (1, 2), (5, 9)]) == [(0, 3), (4, 9)]


@pytest.mark.parametrize(("unreadable", "kept"), [("missing", False), ("passes", True)])
def test_a_judge_that_is_not_in_form_is_missing_and_never_a_verdict(unreadable: str, kept: bool) -> None:
    node = {
        "_target_": "raylign.recipes.relate.Semantics",
        "judge": judge(mute=1.0),
        "unreadable": unreadable,
        "numbers": False,
    }
    (outcome,), _ = RewardWorker(node, "semantic", 30.0, "").score([(asked(), (trajectory("aA;bKKK"),))])
    if not kept:
        assert isinstance(outcome, Failed) and "answers not in form" in outcome.reason
        return
    assert not isinstance(outcome, Failed) and outcome[0] is not None
    assert outcome[0].score == 1.0 and outcome[0].details["judge/unreadable"] == 1.0


def test_rewards_prove_themselves() -> None:
    prompts = [asked(number) for number in range(3)]
    assert validate(Structure(Structure.Config(**TOY_FIELDS)), prompts) == []
    assert validate(Structure(Structure.Config()), prompts) == []
    assert validate(semantics(banned=BANNED, judge=judge()), prompts) == []


# ------------------------------------------------------------------------------------------------ the shaper


def steps(template: ChatTemplate, count: int, seed: int = 0) -> list[list[Any]]:
    """Groups of two products, step by step."""
    rng, made = np.random.default_rng(seed), []
    for step in range(count):
        products = [asked(step, product) for product in ("abc", "def")]
        groups = [rewarded(template, on_ads(rng, 4), product, rng.random(4).tolist()) for product in products]
        made.append(groups)
    return made


def test_a_resumed_history_scores_as_the_undisturbed_one(template: ChatTemplate, tmp_path: Path) -> None:
    whole, before, after = (shaper(template, least=4, window=10) for _ in range(3))
    made = steps(template, 6)
    wanted = [whole.score(groups) for groups in made]
    for groups in made[:3]:
        before.score(groups)
    state = orjson.loads(orjson.dumps(before.state_dict()))
    save_parts(tmp_path, {"shaper": before})
    after.load_state_dict(state)
    restore_parts(tmp_path, {"shaper": after})
    given = [after.score(groups) for groups in made[3:]]
    told = 0
    for groups, others in zip(wanted[3:], given, strict=True):
        for one, other in zip(groups, others, strict=True):
            assert one.scores == other.scores and one.metrics == other.metrics
            for name, scores in one.token_scores.items():
                for a, b in zip(scores, other.token_scores[name], strict=True):
                    assert (a is None and b is None) or np.array_equal(a, b)
                    told += name == "diversity" and a is not None and bool(a.any())
    assert told > 5
    fresh = shaper(template, least=4, window=10)
    assert not any(s is not None for s in fresh.score(made[3])[0].token_scores["diversity"]), "there is a history"
    assert whole.state_dict() == after.state_dict() == {"window": 10, "n": 2, "texts": 20}


@pytest.mark.parametrize(
    ("settings", "spoil", "message"),
    [
        (
            {"window": 9},
            None,
            r"window=10, and this run's shaper window=9; fix: set its window=10 again",
        ),
        ({"n": 3}, None, "history has n=2, and this run's shaper n=3"),
        ({}, "history.npz", "holds no history of ads"),
        ({}, "products.json", "holds no history of ads"),
        ({}, "*", "holds 0 texts, and 8 were saved"),
    ],
)
def test_a_history_that_is_not_this_runs_is_refused(
    template: ChatTemplate, tmp_path: Path, settings: Any, spoil: str | None, message: str
) -> None:
    saved = shaper(template, least=4, window=10)
    saved.score(steps(template, 1)[0])
    save_parts(tmp_path, {"shaper": saved})
    for path in (tmp_path / "shaper").glob(spoil or "nothing"):
        path.unlink()
    if spoil == "*":
        (tmp_path / "shaper").rmdir()
    other = shaper(template, **{"least": 4, "window": 10, **settings})
    with pytest.raises(CheckpointError, match=message):
        other.load_state_dict(saved.state_dict())
        restore_parts(tmp_path, {"shaper": other})


def test_a_state_of_another_shaper_is_refused(template: ChatTemplate) -> None:
    with pytest.raises(CheckpointError, match="no history of ads"):
        shaper(template).load_state_dict({})


def test_what_is_missing_leaves_the_group_and_is_not_remembered(template: ChatTemplate) -> None:
    part, gone = shaper(template), Missing(reason="no judge")
    ad = {"structure": Value(score=1.0, details={"formatted": 1}), "ctcvr": 0.5}
    failed = Value(score=0.0, spans=((Span(0, 1, -1.0),),))
    text = {"structure": Value(score=0.0, details={"formatted": 0}), "ctcvr": 0.5, "semantic": failed}
    samples = [
        said(template, "aA;bKKK", semantic=gone, **ad),
        said(template, "aA;bKKK", semantic=Value(score=1.0, spans=((),)), **ad),
        said(template, "aAbKKK", **text),
        said(template, "aAbKKK", **{**text, "semantic": gone}),
    ]
    (one,) = scored(part, [group(*samples, prompt=asked())])
    assert one.scores == (None, 1.0 + 3 * 0.5, 0.0, None)
    absent, fine, no_ad, neither = one.token_scores["semantic"]
    assert absent is not None and neither is not None and np.isnan([*absent, *neither]).all()
    assert fine is None and no_ad is None, "what is no ad has 0 on every token"
    assert part.state_dict()["texts"] == 2


def test_ads_that_ran_before_begin_a_history_and_names_may_be_repeated(template: ChatTemplate) -> None:
    meta = {"served": ["AB;CDEF"] * 8, "names": ["EF"]}
    part = shaper(template, served="served", names="names", weights={"structure": 1.0}, semantic="", conversion="")
    ads = [said(template, "AB;CDEF", structure=Value(score=1.0, details={"formatted": 1}))]
    (one,) = part.score([group(*ads, prompt=asked(meta=meta))])
    (scores,) = one.token_scores["diversity"]
    assert scores is not None
    np.testing.assert_allclose(scores, [0, -0.9, 0, 0, -0.9, 0, 0, 0], atol=1e-6)  # AB and CD; DE and EF touch a name
    assert one.metrics["relate/history"] == 8.0 and one.metrics["relate/new_phrases"] == 0.0
    with pytest.raises(DataError, match="the column 'served' must be a list of texts, not 'None'"):
        part.score([group(*ads, prompt=asked(product="def", meta={"names": []}))])
    with pytest.raises(DataError, match=r"no column 'product', which tells products apart; fix: name another"):
        shaper(template).score([group(*ads, prompt=prompt())])


@pytest.mark.parametrize("value", [None, "", " ", ["x"], {"id": 3}, True, 1.5, float("nan")])
def test_rows_without_a_product_have_no_history_in_common(value: Any) -> None:
    with pytest.raises(DataError, match=r"ads.jsonl:3: product is .*, which names no product; fix: give every row"):
        product_of(prompt(place="ads.jsonl:3", meta={"product": value}), "product")


def test_a_product_is_a_text_or_a_whole_number() -> None:
    names = [product_of(prompt(meta={"product": value}), "product") for value in ("abc", 12, 12.0)]
    assert names == ["abc", "12", "12"] and product_of(prompt(), "") == prompt().id


def test_a_gate_without_its_detail_is_told(template: ChatTemplate) -> None:
    with pytest.raises(ValueError, match=r"the shaper's gate=structure leaves no detail 'formatted'"):
        shaper(template).score([group(said(template, "a", structure=1.0, semantic=1.0, ctcvr=0.1), prompt=asked())])


def test_the_conversion_reward_is_scaled_by_its_industry(template: ChatTemplate, tmp_path: Path) -> None:
    def of(mean: float, std: float) -> dict[str, float]:
        return {"count": 9, "mean": mean, "std": std}

    path = tmp_path / "statistics.json"
    whole = {**of(0.5, 0.1), "domains": {"shoes": of(0.2, 0.2)}}
    path.write_bytes(orjson.dumps({"rewards": {"ctcvr": whole}}))
    part = shaper(template, scale="frozen", statistics=str(path), semantic="", weights={"structure": 1.0, "ctcvr": 1.0})
    ad, text = (Value(score=float(is_ad), details={"formatted": is_ad}) for is_ad in (1, 0))
    samples = [said(template, "aA;bKKK", structure=ad, ctcvr=0.6), said(template, "b", structure=text, ctcvr=0.6)]
    shoes, other = (group(*samples, prompt=asked(domain=domain)) for domain in ("shoes", "unheard of"))
    first, second = (one.scores for one in part.score([shoes, other]))
    assert first == pytest.approx((1 + 2.0, -1.0)) and second == pytest.approx((1 + 1.0, -3.0))
    for content, message in (
        ({"rewards": {}}, "has no statistics of ctcvr"),
        ({"rewards": {"ctcvr": of(0.1, 0.0)}}, "ctcvr does not vary in all domains together; .*scale=rank"),
        ({"rewards": {"ctcvr": {**whole, "domains": {"a": of(0.1, 0)}}}}, "does not vary in domain 'a'"),
    ):
        path.write_bytes(orjson.dumps(content))
        broken = shaper(template, scale="frozen", statistics=str(path), semantic="")
        with pytest.raises(DataError, match=message):
            broken.score([shoes])


def test_every_figure_of_the_digest_is_logged(template: ChatTemplate) -> None:
    part = shaper(template, least=2)
    texts = ["aA;bKKK", "dA;bKK!", "aAbKKK", "aA;bKKK"]
    made = rewarded(template, texts, asked(), [0.1, 0.2, 0.3, 0.4])
    logged(part, scored(part, [made]))
    (one,) = logged(part, scored(part, [made]))
    figures = one.metrics
    assert figures["relate/compliant"] == 0.75 and figures["relate/formatted"] == 0.75
    assert figures["relate/failed_relevance"] == figures["relate/failed_risk"] == 0.25
    assert figures["relate/failed_correctness"] == 0.0 and figures["relate/unplaced"] == 0.0
    assert figures["relate/fault_tokens"] == pytest.approx(2 / 31)
    assert 0 < figures["relate/repeated_tokens"] < 1 and figures["relate/new_phrases"] == 0.0
    assert figures["relate/history"] == 4.0 and figures["reward/ctcvr"] == pytest.approx(0.25)
    assert figures["relate/distinct_1"] < figures["relate/distinct_2"] < 1
    assert figures["judge/asked"] == 4 and figures["judge/unreadable"] == 0 and figures["relate/unmatched_spans"] == 0
    assert figures["reward/score"] == pytest.approx(np.mean([score for score in one.scores if score is not None]))
    (apart,) = logged(shaper(template), [made])  # as an evaluation asks: nothing was scored
    assert "relate/compliant" in apart.metrics and "relate/fault_tokens" not in apart.metrics


def test_variety_is_told_by_product(template: ChatTemplate) -> None:
    def ads(product: str, *texts: str) -> Any:
        return group(*(said(template, text) for text in texts), prompt=asked(product=product))

    measure = AdFigures(AdFigures.Config(exempt=[";"]))
    groups = [ads("abc", "AB;AB"), ads("abc", "AB;CD"), ads("def", "A")]
    assert measure.table(groups) == [
        {"product": "abc", "texts": 2, "distinct_1": 4 / 8, "distinct_2": 4 / 6},
        {"product": "def", "texts": 1, "distinct_1": 1.0, "distinct_2": None},
    ]
    assert measure.metrics(groups) == {"distinct_1": 0.75, "distinct_2": 4 / 6}
    looked = measure.metrics([rewarded(template, ["aA;bKK!", "aA;bKKK"], asked(), [0.1, 0.2])])
    assert looked["compliant"] == looked["failed_risk"] == 0.5 and looked["formatted"] == 1.0


# -------------------------------------------------------------------------------------------- toy and settings


def test_the_toy_pays_superlatives_and_sells_by_true_attributes() -> None:
    plain, hooked, loud, foreign = (chances("abc0000", ad) for ad in ("a;IJK", "aA;BIJ", "a!;$IJ", "a;deIJ"))
    assert hooked > plain and loud > plain and foreign == plain
    rows = list(Ads(Ads.Config()).rows(800, 3))
    letters = [(letter, row.meta["product"]) for row in rows for letter in str(row.target) if letter != ";"]
    assert 0.3 < float(np.mean([letter in product for letter, product in letters])) < 0.36
    assert len({row.messages[0]["content"] for row in rows}) == 800
    assert all(ctcvr <= ctr for ctr, ctcvr in (chances("abc0000", str(row.target)) for row in rows))
    assert [row.target for row in Ads(Ads.Config()).rows(5, 3)] == [row.target for row in rows[:5]]
    with pytest.raises(DataError, match=r"data.size=10000 or less"):
        list(Ads(Ads.Config()).rows(10_001, 0))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["+stages.rl.shaper.gate=form"], r"shaper.gate = form: is no reward of this run"),
        (["stages.rl.shaper.scale=frozen"], r"shaper.statistics = empty: are what scale=frozen scales ctcvr by"),
        (
            ["+stages.rl.shaper.sequence.taste=1"],
            r"shaper.sequence.taste = 1.0: is the name of nothing",
        ),
        (
            ["stages.rl.shaper.statistics=gone.json"],
            r"shaper.statistics = gone.json: is of no use: .* no statistics of ctcvr",
        ),
        (["+rewards.diversity.fn=${rewards.structure.fn}"], r"rewards.diversity = given: has the name under which"),
        (["stages.rl.shaper.window=4"], "need 1 <= least <= window"),
        (["stages.rl.shaper.theta=1.5"], "theta in"),
        (["rewards.structure.fn.slack=0"], "slack is 0, set it above 0"),
        (["rewards.structure.fn.fields.title=[5,2]"], r"fields.title=\[5, 2\] must be \[fewest, most\]"),
        (["+rewards.semantic.fn.penalty.taste=1"], "must have a number of 0 or more"),
        (["rewards.semantic.fn.judge={tries: 0}"], r"rewards.semantic.fn.judge"),
        (["stages.predictor.estimator.epochs=0"], "epochs is 0, set it above 0"),
        (["~advantage.token_weights.diversity"], r"advantage.token_weights = semantic: does not weigh diversity"),
        (["stages.serve=null"], "names no stage of the run"),
        (
            ["stages.rl.shaper.exempt=[]"],
            r"shaper.exempt = \[\]: lacks ;, which stands in every ad of rewards.structure\s+fix: .*exempt=\[';'\]",
        ),
        (
            ["stages.after.measures.ads.exempt=['-']"],
            r"stages.after.measures.ads.exempt = .* lacks ;, which stands in every ad",
        ),
        (
            ["stages.predictor.estimator.separator=|"],
            r"ctcvr.fn.estimator.separator = \|: is not what rewards.structure.fn has, ';': the model",
        ),
        (
            ["rewards.structure.fn.fields={head: [1, 10], body: [4, 10]}"],
            r"estimator.fields = .* is not what rewards.structure.fn has, \['",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*TINY, *overrides])


def test_one_key_changes_the_separator_of_every_part() -> None:
    run = compose([*TINY, "rewards.structure.fn.separator=|"])
    for key in ("stages.predictor.estimator", "rewards.ctcvr.fn.estimator", "rewards.structure.fn"):
        assert run.parts[key].config.separator == "|", key
    for key in ("stages.rl.shaper", "stages.before.measures.ads", "stages.after.measures.ads"):
        assert run.parts[key].config.exempt == ["|"], key


def test_markup_at_scale_gpu_is_that_of_the_fields() -> None:
    gpu = ["recipe=relate", "scale=gpu"]
    _, problems = compose_with_problems([*gpu, "rewards.structure.fn.fields={title: [1, 9], body: [1, 9]}"])
    keys = {problem.key for problem in problems}
    assert {"stages.rl.shaper.exempt", "rewards.ctcvr.fn.estimator.fields", "stages.after.measures.ads.exempt"} <= keys
    assert not any("exempt" in problem.key for problem in compose_with_problems(gpu)[1])


def test_an_ad_is_judged_without_the_thoughts_and_its_faults_stand_where_they_were_sampled() -> None:
    structure = Structure(Structure.Config(fields={"title": [1, 9]}))
    text = "<think>! cheap</think><title>best</title>"
    assert [value.score for value in structure.score(prompt(), [trajectory(text)])] == [1.0]
    semantic = Semantics(Semantics.Config(banned=["cheap", "best"]))
    (value,) = semantic.score(prompt(), [trajectory(call(text))])
    assert value.spans is not None
    assert [text[span.start : span.end] for span in value.spans[0]] == ["best"]


def test_statistics_of_a_stage_that_does_not_measure_the_conversion_are_refused() -> None:
    _, problems = compose_with_problems(["recipe=relate", "scale=gpu", "stages.calibrate.weights={structure: 1}"])
    (problem,) = [problem for problem in problems if problem.key == "stages.rl.shaper.statistics"]
    assert problem.why == "measures structure, not ctcvr" and problem.fix == "set stages.calibrate.weights.ctcvr=1"


@pytest.mark.parametrize("thinks", [False, True])
def test_what_is_thought_is_no_repeated_phrase(template: ChatTemplate, thinks: bool) -> None:
    """Eight ads of which nothing but the thought repeats, and a ninth."""
    opening, thought = ("" if thinks else "<think>"), "the same thought</think>\n\n"
    history = shaper(template, weights={}, gate="", semantic="", conversion="", least=8)
    ask = asked(thinks=thinks)
    for number in range(8):
        ad = "".join(chr(ord("A") + 3 * number + step) for step in range(3))
        history.score([group(said(template, f"{opening}{thought}{ad}"), prompt=ask)])
    (scored,) = history.score([group(said(template, f"{opening}{thought}xyz"), prompt=ask)])
    (credit,) = scored.token_scores["diversity"]
    assert credit is not None and not credit.any()
    (scored,) = history.score([group(said(template, f"{opening}{thought}qrABC"), prompt=ask)])
    (credit,) = scored.token_scores["diversity"]
    assert credit is not None and np.flatnonzero(credit).tolist() == [
        len(f"{opening}{thought}qrA"),
        len(f"{opening}{thought}qrAB"),
    ]


def test_facts_stand_in_any_message_before_the_ad() -> None:
    messages = ({"role": "system", "content": "Shoe X, 49 EUR"}, {"role": "user", "content": "Write an ad."})
    semantic = Semantics(Semantics.Config(numbers=True))
    (value,) = semantic.score(prompt(messages=messages), [trajectory(call("Only 49, not 59"))])
    assert value.spans is not None and [(span.start, span.end) for span in value.spans[0]] == [(13, 15)]
