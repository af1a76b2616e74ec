"""P-GenRM's formulas from the symbols of the paper's digest, float64, and the pitfalls that it names."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from raylign.actors.judge import blocking
from raylign.errors import JudgeUnreadable
from raylign.objectives.advantage.group import GRPO
from raylign.recipes.p_genrm import (
    Agrees,
    ChainFigures,
    Format,
    HardNegatives,
    JsonChains,
    Judgements,
    Outcome,
    Process,
)
from raylign.recipes.p_genrm.combine import combined, mean_scores, top_of
from raylign.recipes.p_genrm.coverage import share_of
from raylign.recipes.p_genrm.items import Choice, Item, UserSplit
from raylign.recipes.p_genrm.prototypes import clustered
from raylign.recipes.p_genrm.refine import Pair, PairModel, Refinement, loss_of, refined
from raylign.recipes.p_genrm.rewards import SCALED, Tie, spearman
from raylign.recipes.p_genrm.store import Store
from raylign.records import Prompt, Trajectory
from raylign.testing import group, prompt, rows_of, trajectory

ALPHA, BETA, PENALTY = 0.5, 1.0, -0.1


def asked(gold: tuple[float, ...] = (0.0, 1.0), number: int = 0, **fields: Any) -> Prompt:
    """An item whose second response was chosen."""
    responses = tuple(f"answer {index}" for index in range(len(gold)))
    known = {"user": "u", "part": UserSplit.train, "query": "q", "responses": responses, "gold": gold, **fields}
    item = Item(criteria={"brevity": 60.0, "warmth": 40.0}, history=(Choice("q0", "a", "b"),), **known)
    return prompt(number, meta=item.meta())


def chain(body: str, weights: str = "- brevity [60%]: x\n- warmth [40%]: y") -> str:
    head = f"## Part 1: persona\nlikes it short\n## Part 2: scoring\n{weights}\n"
    return f"{head}<JSON_START>{body}<JSON_END>"


def totals(first: Any, second: Any) -> str:
    return json.dumps({"rationale": "r", "better_response": {"response_1": first, "response_2": second}})


# ------------------------------------------------------------------------------------------- the table of rewards

TABLE: tuple[tuple[str, str, float | None], ...] = (  # chain, and OR; None: it is not in form
    ("right", chain(totals(3, 8.5)), 1.0),
    ("tie", chain(totals(5, 5)), 0.0),
    ("reversed", chain(totals(9, 2)), 0.0),
    ("numbers as texts", chain(totals("3.5", "8")), 1.0),
    ("text after the object", chain(totals(3, 8)) + "\nDone.", 1.0),
    ("no tag at the end", chain(totals(3, 8)).replace("<JSON_END>", ""), None),
    ("no tag at the start", chain(totals(3, 8)).replace("<JSON_START>", ""), None),
    ("tags in the wrong order", f"<JSON_END>{totals(3, 8)}<JSON_START>", None),
    ("two objects", chain(totals(3, 8)) + chain(totals(8, 3)), None),
    ("broken JSON", chain(totals(3, 8)[:-1]), None),
    ("more than one object", chain(totals(3, 8) * 2), None),
    ("a list", chain(f"[{totals(3, 8)}]"), None),
    ("no rationale", chain(json.dumps({"better_response": {"response_1": 3, "response_2": 8}})), None),
    ("a rationale that is a number", chain(totals(3, 8).replace('"r"', "1")), None),
    ("scores in its place", chain(totals(3, 8).replace("better_response", "scores")), None),
    ("one response", chain(json.dumps({"rationale": "r", "better_response": {"response_2": 8}})), None),
    ("three responses", chain(totals(3, 8).replace("}}", ', "response_3": 1}}')), None),
    ("true", chain(totals(3, True)), None),
    ("no number", chain(totals(3, "high")), None),
    ("NaN", chain(totals(3, 8).replace("8", "NaN")), None),
    ("Infinity", chain(totals(3, "inf")), None),
    ("null", chain(totals(3, None)), None),
    ("nothing", "", None),
)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chains that the judge was asked about; it says .5."""
    chains: list[str] = []

    def answer(self: Any, work: Any) -> Any:
        class Judge:
            def ask(self, messages: Any, read: Any) -> Any:
                content = messages[-1]["content"]
                chains.append(content)
                return type("Answer", (), {"value": read("about 0.5, I think")})

        return work(Judge())

    monkeypatch.setattr(blocking.BlockingJudge, "__call__", answer)
    return chains


def process() -> Process:
    return Process(Process.Config(judge={"model": {"_target_": "x"}}))


@pytest.mark.parametrize(("text", "outcome"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_r_is_alpha_pr_plus_beta_or_or_the_penalty(text: str, outcome: float | None, judged: list[str]) -> None:
    parts = {"format": Format(Format.Config()), "outcome": Outcome(Outcome.Config()), "process": process()}
    ask = asked()
    rewards = {name: part.score(ask, [trajectory(text)])[0] for name, part in parts.items()}
    shaper = ChainFigures(ChainFigures.Config(), {"format": 1.0, "outcome": BETA, "process": ALPHA}, 99)
    (scored,) = shaper.score([group(trajectory(text, rewards=dict(rewards)), prompt=ask)])
    expected = PENALTY if outcome is None else ALPHA * 0.5 + BETA * outcome
    assert scored.scores[0] == pytest.approx(expected, abs=1e-9)
    assert len(judged) == (outcome is not None), "a chain that is not in form is not judged"


def test_the_alias_of_the_papers_prompt_is_taken_where_it_is_set() -> None:
    text = chain(totals(3, 8).replace("better_response", "scores"))
    read = JsonChains(JsonChains.Config(alias=True)).read(text, 2)
    assert read is not None and read.scores == (3.0, 8.0)


def test_advantages_of_eight_chains() -> None:
    rewards = [ALPHA * pr + BETA * outcome for pr, outcome in zip(np.linspace(0, 1, 8), [0, 1] * 4, strict=True)]
    rewards[3] = PENALTY
    advantage = GRPO(GRPO.Config(epsilon=0.0)).of_group(np.array(rewards))
    np.testing.assert_allclose(advantage, (rewards - np.mean(rewards)) / np.std(rewards, ddof=1), atol=1e-12)
    assert abs(advantage.mean()) < 1e-12 and abs(advantage.std(ddof=1) - 1) < 1e-12
    rows = rows_of([group(*[trajectory("ab")] * 8, scores=[1.5] * 8)])
    batch, _ = GRPO(GRPO.Config()).assign(rows.batch, rows.scores)
    assert not np.asarray(batch["advantage"]).any()


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("0.7", 0.7),
        ("I say 0.25 of 1.", 0.25),
        (".5", 0.5),
        ("1", 1.0),
        ("0/10", 0.0),
        ("7/10", 0.7),
        ("80%", 0.8),
        ("Coverage: 80 percent", 0.8),
        ("0,75", 0.75),
        ("**Score:** 0.8/1", 0.8),
        ('{"score": 0.4}', 0.4),
        ("The reasoning covers 3 of 4 criteria: 0.75", 0.75),
        ("3 criteria are named, so 0.6.", 0.6),
        ("1. brevity: covered\n2. tone: not covered\nScore: 0.5", 0.5),
        ("brevity score: 1\ntone score: 0\n0.5", 0.5),
        ("It covers brevity (60%) but not tone (40%).\n\n0.6", 0.6),
        ("The score is 0.6, for tone (40%) is missing.", 0.6),
        ("0.50, or 50%", 0.5),
    ],
)
def test_the_share_of_a_reply_is_the_one_that_the_judge_gives(reply: str, value: float) -> None:
    assert share_of(reply) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    "reply",
    [
        *("hard to say", "3.5", "-0.4", "11/10", "120%", "Score: 8", "0.5/0", "1e-1", "between 0 and 1", "0.3-0.5"),
        *("brevity 60%, tone 40%", "brevity score: 1\ntone score: 0", "Response 1 is better", "it names 2 criteria"),
    ],
)
def test_a_reply_without_one_share_is_unreadable(reply: str) -> None:
    with pytest.raises(ValueError, match=r"no number|different numbers|not between 0 and 1|is no share"):
        share_of(reply)


def test_a_judge_without_a_number_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: Any, work: Any) -> Any:
        raise JudgeUnreadable("no number")

    monkeypatch.setattr(blocking.BlockingJudge, "__call__", unreadable)
    with pytest.raises(JudgeUnreadable):
        process().score(asked(), [trajectory(chain(totals(3, 8)))])


@pytest.mark.parametrize(
    ("weights", "scores", "kept"),
    [
        ("- a [60%]\n- b [40%]", (3, 8), True),
        ("- a [60.5%]\n- b [40.5%]", (3, 8), True),
        ("- a [60%]\n- b [39%]", (3, 8), True),
        ("- a [60%]\n- b [38%]", (3, 8), False),
        ("- a [60%]\n- b [42%]", (3, 8), False),
        ("none", (3, 8), False),
        ("- a [60%]\n- b [40%]", (8, 8), False),
        ("- a [60%]\n- b [40%]", (8, 3), False),
    ],
)
def test_a_teachers_chain_is_kept_where_it_agrees(weights: str, scores: tuple[int, int], kept: bool) -> None:
    rule = Agrees(Agrees.Config())
    assert len(rule.keep(group(trajectory(chain(totals(*scores), weights)), prompt=asked()), [0])) == kept


def test_the_analysis_is_part_one_alone() -> None:
    read = JsonChains(JsonChains.Config()).read(chain(totals(3, 8)), 2)
    assert read is not None and read.analysis == "likes it short"
    assert read.weights == {"brevity": 60.0, "warmth": 40.0}


def test_every_chain_written_is_read_back() -> None:
    form = JsonChains(JsonChains.Config())
    read = form.read(form.write([1, 2, 3.5], {"x": 30, "y y": 70}, "who"), 3)
    assert read is not None and (read.scores, read.analysis, read.weights) == ((1, 2, 3.5), "who", {"x": 30, "y y": 70})


# -------------------------------------------------------------------------------------------------- more responses


@pytest.mark.parametrize("gold", [(0.0, 2.0, 1.0), (5.0, 1.0, 3.0, 4.0)])
def test_ranks_of_more_than_two_responses(gold: tuple[float, ...]) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        scores = rng.integers(1, 5, len(gold)).astype(float)
        if len(set(scores)) == 1:
            continue
        ranks = [
            np.mean([k for k, v in enumerate(sorted(values)) if v == value])
            for values in (scores, gold)
            for value in values
        ]
        first, second = np.array(ranks[: len(gold)]), np.array(ranks[len(gold) :])
        a, b = first - first.mean(), second - second.mean()
        expected = (a @ b) / math.sqrt((a @ a) * (b @ b))
        assert spearman(scores.tolist(), gold) == pytest.approx(expected, abs=1e-12)
        shown = {f"response_{index}": score for index, score in enumerate(scores, 1)}
        text = chain(json.dumps({"rationale": "r", "better_response": shown}))
        (value,) = Outcome(Outcome.Config()).score(asked(gold), [trajectory(text)])
        assert value.details["spearman"] == pytest.approx(expected, abs=1e-12)
        assert value.score == (scores[int(np.argmax(gold))] > max(np.delete(scores, int(np.argmax(gold)))))


@pytest.mark.parametrize(
    "chains",
    [
        [[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]],
        [[7.1, 6.9], [6.9, 7.1], [7.3, 6.7], [6.7, 7.3]],
        [[1e-12, 3e-12], [2e-12, 2e-12], [3e-12, 1e-12]],
        [[-0.1, -0.3], [-0.2, -0.2], [-0.3, -0.1]],
    ],
)
@pytest.mark.parametrize("gold", [(0.0, 1.0), (1.0, 0.0)])
def test_totals_that_differ_by_rounding_alone_are_a_tie(chains: list[list[float]], gold: tuple[float, float]) -> None:
    near = [[total + 1e-15 * abs(total) * (n == 0) for n, total in enumerate(chain)] for chain in chains]
    scores = combined(mean_scores(near), mean_scores(chains[::-1]), (0.3, 0.7))
    said = replace(trajectory("-"), payload={SCALED: {"scores": scores}})
    wrong, first = (Outcome(Outcome.Config(tie=tie)).score(asked(gold), [said])[0] for tie in (Tie.wrong, Tie.first))
    assert wrong.details["tie"] is first.details["tie"] is True
    assert (wrong.score, first.score) == (0.0, gold[0])
    judged = group(replace(said, rewards={"outcome": wrong}), prompt=asked(gold))
    figures = Judgements(Judgements.Config()).metrics([judged])
    assert (figures["accuracy"], figures["tie"], figures["first"]) == (0.0, 1.0, gold[0])


def test_totals_that_differ_are_no_tie() -> None:
    assert top_of([5.0, 5.000001]) == [1] and top_of([0.0, 0.0]) == [0, 1] and top_of([-2.0, -1.0, -1.0]) == [1, 2]
    assert spearman([0.1 + 0.2, 0.3, 1.0], [0.0, 0.0, 1.0]) == pytest.approx(1.0)


def test_a_tie_is_wrong_or_response_one() -> None:
    tie = [trajectory(chain(totals(5, 5)))]
    for gold, first in (((1.0, 0.0), 1.0), ((0.0, 1.0), 0.0)):
        assert Outcome(Outcome.Config()).score(asked(gold), tie)[0].score == 0.0
        assert Outcome(Outcome.Config(tie=Tie.first)).score(asked(gold), tie)[0].score == first


# ------------------------------------------------------------------------------------------------- eq. 8 and eq. 9


def scaled(scores: Sequence[float] | None) -> Trajectory:
    return trajectory("unread", payload={SCALED: {"scores": scores}})


def test_scores_of_both_channels_and_their_fallbacks() -> None:
    own, near = [(8.0, 4.0), None, (6.0, 7.0), (4.0, 4.0)], [(2.0, 9.0), (4.0, 5.0), None]
    s_self, s_near = mean_scores(own), mean_scores(near)
    assert s_self == [6.0, 5.0] and s_near == [3.0, 7.0]
    assert combined(s_self, s_near, (0.5, 0.5)) == [(6 + 3) / 2, (5 + 7) / 2]
    assert combined(s_self, s_near, (3.0, 1.0)) == [(18 + 3) / 4, (15 + 7) / 4]
    assert combined(s_self, None, (0.5, 0.5)) == s_self and combined(None, s_near, (0.5, 0.5)) == s_near
    assert combined(None, s_near, (1.0, 0.0)) == s_near and combined(None, None, (0.5, 0.5)) is None
    assert mean_scores([None, None]) is None and mean_scores([]) is None
    outcome = Outcome(Outcome.Config())
    assert [outcome.score(asked(), [scaled(scores)])[0].score for scores in ([5, 6], [6, 5], [5, 5], None)] == [
        1,
        0,
        0,
        0,
    ]


# ------------------------------------------------------------------------------------------------------ prototypes


def reference_delta(model: PairModel, pair: Pair, a: np.ndarray, settings: Refinement) -> float:
    """Delta_t by the digest's symbols."""
    w, b = (p.detach().numpy() for p in (model.past.weight, model.past.bias))
    w_q, w_s = (layer.weight.detach().numpy() for layer in (model.query, model.history))
    d = len(a)
    o = [np.tanh(w @ np.concatenate([q, dy]) + b) for q, dy in pair.past]
    v = np.zeros(d)
    if o:
        on_query, on_prototype = (settings.rho, 1.0) if settings.released else (1.0, settings.rho)
        logits = np.array([on_query * (x @ pair.query) / d**0.5 + on_prototype * (x @ a) / d**0.5 for x in o])
        alpha = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        v = sum(weight * x for weight, x in zip(alpha, o, strict=True))
    z = a + settings.query * (w_q @ pair.query) + settings.history * (w_s @ v)
    return float(z @ pair.difference)


def random_pair(rng: np.random.Generator, d: int, past: int) -> Pair:
    return Pair(
        query=rng.normal(size=d),
        difference=rng.normal(size=d),
        past=tuple((rng.normal(size=d), rng.normal(size=d)) for _ in range(past)),
    )


@pytest.mark.parametrize("released", [False, True])
def test_delta_and_its_loss(released: bool) -> None:
    rng, d = np.random.default_rng(4), 6
    settings = Refinement(rho=0.5, query=0.7, history=1.3, centre=0.2, trust=0.4, released=released)
    model = PairModel(d, settings)
    pairs = [random_pair(rng, d, past) for past in (3, 1, 0)]
    a, mu, p = (rng.normal(size=d) for _ in range(3))
    expected = np.array([reference_delta(model, pair, a, settings) for pair in pairs])
    delta = model(pairs, torch.from_numpy(a))
    np.testing.assert_allclose(delta.detach().numpy(), expected, atol=1e-12)
    loss = np.mean([-math.log(1 / (1 + math.exp(-x))) for x in expected])
    if not released:
        loss += 0.2 * ((a - mu) ** 2).sum() + 0.4 * ((a - p) ** 2).sum()
    prototype, mean, before = (torch.from_numpy(x) for x in (a, mu, p))
    ours = loss_of(delta, prototype, mean, before, settings)
    assert float(ours.detach()) == pytest.approx(loss, abs=1e-12)


def small(centre: float, trust: float = 0.0, **more: Any) -> tuple[np.ndarray, np.ndarray]:
    """|a_j - mu_j| and |a_j - p_j| of a first epoch on pairs that pull elsewhere."""
    rng = np.random.default_rng(6)
    start = np.eye(8)[:2]
    mean = start * 0.999
    pulls = [[random_pair(rng, 8, 2) for _ in range(400)] for _ in start]
    a, _ = refined(start, mean, pulls, Refinement(centre=centre, trust=trust, **more), seed=1)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1.0, atol=1e-12)
    return np.linalg.norm(a - mean, axis=1), np.linalg.norm(a - start, axis=1)


def test_regularisers_hold_the_prototypes() -> None:
    free, _ = small(0.0)
    held, _ = small(1e3)
    assert held.max() < 1e-2 < free.min()
    trusted, released = small(0.0, trust=1e3)[1], small(1e3, trust=1e3, released=True)[0]
    assert trusted.max() < 1e-2, "p_j is where the epoch found it: a trust region"
    assert released.min() > 1e-2, "the released code adds no regulariser"


def test_no_epoch_leaves_the_centroids() -> None:
    start = np.eye(4)[:2]
    a, _ = refined(start, start, [[], []], Refinement(epochs=0), seed=0)
    assert (a == start).all()


def test_k_means_finds_what_is_apart() -> None:
    rng = np.random.default_rng(2)
    centres = np.eye(5)[:3]
    labels = rng.integers(0, 3, 90)
    vectors = centres[labels] + 0.05 * rng.normal(size=(90, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found, centroids = clustered(vectors, 3, 10, seed=0)
    assert all(len(set(found[labels == j])) == 1 for j in range(3)) and len(set(found)) == 3
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1.0)
    again, _ = clustered(vectors, 3, 10, seed=0)
    assert (again == found).all()


@pytest.mark.parametrize("distinct", [False, True])
def test_neighbours_are_the_nearest_of_the_prototype_and_never_the_own_user(distinct: bool) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(60, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    prototypes = np.eye(4)[:3]
    members = np.argmax(vectors @ prototypes.T, axis=1)
    users = tuple(f"u{number % 7}" for number in range(60))
    store = Store(
        prototypes=prototypes, vectors=vectors, members=members, users=users, histories=((),) * 60, embedder="e"
    )
    for _ in range(30):
        e, own = rng.normal(size=4), f"u{rng.integers(7)}"
        j = max(range(3), key=lambda j: prototypes[j] @ e)
        inside = [row for row in range(60) if members[row] == j and users[row] != own]
        inside.sort(key=lambda row: -(vectors[row] @ e))
        expected, seen = [], set[str]()
        for row in inside:
            if not distinct or users[row] not in seen:
                expected.append(row)
                seen.add(users[row])
        assert store.nearest(e) == j and store.neighbours(e, 4, own, distinct) == expected[:4]
    assert len(store.neighbours(prototypes[0], 99, "nobody")) == (members == 0).sum()


# ------------------------------------------------------------------------------------------------------ curriculum


def test_the_share_of_hard_negatives_follows_the_schedule() -> None:
    shares, steps, per_step = [0.25, 0.5, 0.75, 1.0], 10, 7
    prompts = [asked(number=number, gap=float(number)) for number in range(30)]
    config = HardNegatives.Config(shares=shares, steps=steps, prompts_per_step=per_step)
    source = HardNegatives(config, prompts=prompts, seed=3)
    gaps = [prompt.meta["item"]["gap"] for step in range(steps) for prompt in source.next(per_step)]
    hard = [gap <= np.quantile(range(30), 1 / 3) for gap in gaps]
    for phase, share in enumerate(shares):
        own = [is_hard for number, is_hard in enumerate(hard) if number * 4 // (steps * per_step) == phase]
        assert abs(np.mean(own) - share) <= 0.5 / len(own) + 1e-12
    assert source.metrics()["hard_share"] == 1.0 and source.metrics()["phase"] == 3
