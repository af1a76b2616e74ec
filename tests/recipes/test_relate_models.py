"""What RELATE fits: clicks and conversions over all impressions, and votes; and logs that teach nothing."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relate_cases import asked, log, two_heads

from raylign.actors.reward.fitted import Fitted
from raylign.contracts import PlacedRow
from raylign.errors import DataError
from raylign.recipes.relate import VotedPairs
from raylign.recipes.relate.toy import FORM, PRODUCTS, chances, written
from raylign.testing import prompt, trajectory

LEARNS = {"longest": 1, "epochs": 20, "batch_size": 64, "lr": 0.01}


def logs(count: int, seed: int = 0, impressions: int = 200) -> list[PlacedRow]:
    """Of ads as they were written so far, shown to the toy's people."""
    rng, rows = np.random.default_rng(seed), list[PlacedRow]()
    while len(rows) < count:
        product = PRODUCTS[int(rng.integers(len(PRODUCTS)))]
        context, ad = f"{product}{int(rng.integers(10_000)):04d}", FORM.read(written(product, rng))
        if ad is None:
            continue
        ctr, ctcvr = chances(context, "".join(ad.values()))
        clicks = int(rng.binomial(impressions, ctr))
        shown = {"impressions": impressions, "clicks": clicks, "conversions": int(rng.binomial(clicks, ctcvr / ctr))}
        rows.append(log(len(rows), context=context, title=ad["title"], desc=ad["description"], **shown))
    return rows


@pytest.fixture(scope="module")
def fitted() -> Any:
    model = two_heads(**LEARNS)
    metrics = model.fit(logs(500), seed=1)
    return model, metrics


def logits(chances: object) -> np.ndarray:
    values = np.asarray(chances, np.float64)
    return np.log(values / (1 - values))


def test_it_tells_what_sells_from_what_is_clicked(fitted: Any) -> None:
    """On ads that it has not seen; true attributes are a matter of ad and context together."""
    model, metrics = fitted
    rng, said, true = np.random.default_rng(9), dict[str, list[float]](), list[tuple[float, float]]()
    for number in range(200):
        asks = asked(number, PRODUCTS[number % len(PRODUCTS)])
        ad = FORM.write({"title": "I" + "".join(rng.choice(list("AB!JKabdem"), 3)), "description": "KLMNO"})
        true.append(chances(str(asks.messages[0]["content"]), ad))
        for head in ("ctr", "ctcvr"):
            other = two_heads(longest=1, head=head)
            other._model = model._model
            said.setdefault(head, []).append(other.scores(asks, [ad])[0])
    ctr, ctcvr = np.array(true).T
    for head, truth in (("ctr", ctr), ("ctcvr", ctcvr)):
        assert np.corrcoef(logits(said[head]), logits(truth))[0, 1] > 0.75, head
    assert metrics["entropy"] < 1 and metrics["too_young"] == 0
    assert metrics["ctcvr_said"] == pytest.approx(metrics["ctcvr"], rel=0.1)
    own, foreign = (model.scores(asked(1, "abc"), [ad])[0] for ad in ("Aabc;IJKL", "Ajkl;IJKL"))
    assert own > foreign


def test_it_comes_back_from_its_folder_and_the_same_rows_make_the_same_model(fitted: Any, tmp_path: Path) -> None:
    model, _ = fitted
    model.save(tmp_path)
    again, other = two_heads(longest=1), two_heads(**LEARNS)
    again.load(tmp_path)
    other.fit(logs(500), seed=1)
    texts = ["aA;IJKL", "no ad", "", "A\ud83d;bbbb"]
    assert again.scores(asked(), texts) == model.scores(asked(), texts) == other.scores(asked(), texts)
    assert all(0 < score < 1 for score in again.scores(asked(), texts)) and again.scores(asked(), []) == []
    reward = Fitted(
        Fitted.Config(
            fitted=str(tmp_path),
            estimator={
                "_target_": "raylign.recipes.relate.TwoHeads",
                "separator": ";",
                "buckets": 256,
                "hidden": 8,
                "longest": 1,
                "head": "cvr",
            },
        )
    )
    (value,) = reward.score(asked(), [trajectory("aA;IJKL")])
    assert value.score >= again.scores(asked(), ["aA;IJKL"])[0]
    for wrong, message in (
        ({"buckets": 128}, "was fitted with buckets=256, now 128"),
        ({"separator": ""}, "separator"),
    ):
        with pytest.raises(DataError, match=message):
            two_heads(longest=1, **wrong).load(tmp_path)
    with pytest.raises(DataError, match="holds no model of clicks"):
        two_heads().load(tmp_path / "nowhere")


def test_a_text_that_is_no_ad_is_read_without_its_markup(fitted: Any) -> None:
    model, _ = fitted
    said = model.scores(asked(), ["aA;bIJK", "aA;bIJK;", "; aA ;; bIJK ", "aAbIJK"])
    assert said[0] == said[1] == said[2], "the same words, whatever stands between them"
    tags = two_heads(separator="", longest=1)
    tags._model = model._model
    whole = "<title>aA</title><description>bIJK</description>"
    broken = [whole + "<title>", f"{whole}</description>", "<title>aA</title>bIJK"]
    assert tags.scores(asked(), broken) == tags.scores(asked(), [whole]) * 3


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([log(clicks=0, conversions=0)], {}, "1 rows have no clicks at all"),
        (
            [log(conversions=0), log()._replace(columns={**log().columns, "conversions": 0})],
            {},
            "2 rows have no conversions",
        ),
        (
            [log(), log(1, conversions=11)],
            {},
            "logs.jsonl:2: impressions=50, clicks=10, conversions=11; fix",
        ),
        ([log(clicks=51)], {}, "logs.jsonl:1: impressions=50, clicks=51"),
        ([log(clicks=-1)], {}, "logs.jsonl:1: column 'clicks' is no number from 0 up, but '-1'"),
        ([log(clicks=True)], {}, "column 'clicks' is no number"),
        ([log(clicks="many")], {}, "column 'clicks' is no number from 0 up, but 'many'"),
        ([log(title=None)], {}, r"logs.jsonl:1: the title is null"),
        ([log(context=3)], {}, "no text in column 'context', but '3'"),
        ([log()], {"record": "meta"}, "no column 'meta.context'"),
        ([log(age_days=2)], {"age": "age_days"}, "0 rows have no impressions at all.*at least 7 days old"),
        ([log()], {"age": "age_days"}, "no column 'age_days'"),
    ],
)
def test_logs_that_cannot_be_are_refused(rows: Any, settings: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        two_heads(**settings).fit(rows, seed=0)


def test_logs_that_are_too_young_to_tell_are_left_out() -> None:
    rows = [log(number, age_days=number, conversions=2 if number > 6 else 0) for number in range(14)]
    metrics = two_heads(age="age_days", epochs=1).fit(rows, seed=0)
    assert metrics["too_young"] == 7 and metrics["ctcvr"] == pytest.approx(2 / 50)


# ------------------------------------------------------------------------------------------------------- votes


def pair(first: str, second: str, votes: tuple[Any, Any], number: int = 0) -> PlacedRow:
    columns = {"ad1": first, "ad2": second, "count.preference_ad1": votes[0], "count.preference_ad2": votes[1]}
    return PlacedRow(f"votes.csv:{number}", columns)


def test_votes_say_which_words_are_liked(tmp_path: Path) -> None:
    rows = [pair(f"good {word}", f"bad {word}", (7, 1)) for word in ("shoes", "hats", "coats")]
    model = VotedPairs(VotedPairs.Config(buckets=512, l2=1.0))
    assert model.fit([*rows, pair("bad", "good", (5, 0))], seed=0) == {"pairs": 3.0, "too_few": 1.0, "accuracy": 1.0}
    good, bad = model.scores(prompt(), ["good gloves", "bad gloves"])
    assert good > bad
    model.save(tmp_path)
    again = VotedPairs(VotedPairs.Config(buckets=512, l2=1.0))
    again.load(tmp_path)
    assert again.scores(prompt(), ["good gloves"]) == [good]
    with pytest.raises(DataError, match="fitted with other settings"):
        VotedPairs(VotedPairs.Config(buckets=512)).load(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([pair("a", "b", (3, 2))], "none of 1 pairs has 6 votes"),
        ([pair("a", "b", ("x", 9), 4)], "votes.csv:4: count.preference_ad1 is no number of votes, but 'x'; fix"),
        ([pair("a", "b", (9, -1), 4)], "votes.csv:4: count.preference_ad2 is no number of votes, but -1; fix"),
        ([pair("a", "b", (float("inf"), 1), 4)], "votes.csv:4: count.preference_ad1 is no number of votes, but inf"),
        ([pair("a", "b", (9, float("nan")), 4)], "votes.csv:4: count.preference_ad2 is no number of votes, but nan"),
        ([pair("a", "b", (9, True), 4)], "votes.csv:4: count.preference_ad2 is no number of votes, but True"),
        ([pair("a", ["x", "y"], (9, 1), 4)], r"votes.csv:4: ad2 is no text, but \['x', 'y'\]; fix"),  # type: ignore[arg-type]
        ([pair(5, "b", (9, 1), 4)], "votes.csv:4: ad1 is no text, but 5; fix"),  # type: ignore[arg-type]
        ([pair("a", "b", (None, 9), 4)], "votes.csv:4: the count.preference_ad1 is null"),
    ],
)
def test_votes_that_say_nothing_are_refused(rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        VotedPairs(VotedPairs.Config()).fit(rows, seed=0)


def test_real_votes_are_read(shared_data: Callable[[str], Path]) -> None:
    with shared_data("adparaphrase/main_2000.csv").open(encoding="utf-8") as file:
        rows = [PlacedRow(f"main_2000.csv:{number}", row) for number, row in enumerate(csv.DictReader(file), 2)]
    model = VotedPairs(VotedPairs.Config(buckets=1024))
    metrics = model.fit(rows, seed=0)
    assert metrics["pairs"] == 1324 and metrics["accuracy"] > 0.6
