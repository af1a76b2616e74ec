"""RELATE's formulas from the symbols of the paper's digest, float64, and the pitfalls that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raylign.chat.template import ChatTemplate
from raylign.models.tokenizer import load_tokenizer
from raylign.objectives.advantage.group import GRPO
from raylign.recipes.relate import GranularCredit, Structure
from raylign.recipes.relate.scale import Scale, ranks, scaled
from raylign.recipes.relate.towers import entire_space_loss
from raylign.records import Group, Span, StopReason, Value
from raylign.testing import call, group, prompt, rows_of, trajectory

Floats = NDArray[np.float64]
W, THETA, LEAST, EPSILON = 6, 0.10, 3, 1e-4
W_SEM, W_DIV = 1.0, 6.0
BAD = "!z"  # what fails a check here


@pytest.fixture(scope="module")
def template(tiny_model: Path) -> ChatTemplate:
    """One letter is one token."""
    return ChatTemplate(load_tokenizer(str(tiny_model), False))


# ------------------------------------------------------------------------------------------------------ R_str


@pytest.mark.parametrize(
    ("text", "formatted", "reward"),
    [
        ("<title>12345678</title><description>12345678901234567890</description>", 1, 1.0),
        (" <title>12345678</title>\n<description>12345678901234567890</description> ", 1, 1.0),
        ("<title>1234567</title><description>1234567890123456789</description>", 1, 0.8),  # 2 too few
        (f"<title>{'x' * 33}</title><description>{'x' * 65}</description>", 1, 0.2),  # 3 and 5 too many
        (f"<title>{'x' * 8}</title><description>{'x' * 71}</description>", 1, 0.0),  # 11 too many, not below 0
        ("<title>日本語日本語日本</title><description>日本語日本語日本語日本語日本語日本語日本</description>", 1, 1.0),
        ("<title>12345678</title>", 0, 0.0),
        ("<title>12345678</title><description></description>", 0, 0.0),
        ("<title>12345678</title><description> \n </description>", 0, 0.0),
        ("<description>12345678901234567890</description><title>12345678</title>", 0, 0.0),
        ("<title>12345678</title><description>12345678901234567890</description>!", 0, 0.0),
        ("<title>1234567</title><title>8</title><description>12345678901234567890</description>", 0, 0.0),
        ("", 0, 0.0),
    ],
)
def test_structure_is_length_times_form(text: str, formatted: int, reward: float) -> None:
    (value,) = Structure(Structure.Config()).score(prompt(), [trajectory(text)])
    assert value.details["formatted"] == formatted and value.score == pytest.approx(reward)


def test_a_text_without_an_end_is_no_ad() -> None:
    text = "<title>12345678</title><description>12345678901234567890</description>"
    (value,) = Structure(Structure.Config()).score(prompt(), [trajectory(text, stop=StopReason.LENGTH)])
    assert value.score == 0 and value.details["formatted"] == 0


# ------------------------------------------------------------------------------- S, c, d, A on groups in a row


def reference(
    texts: Sequence[str], rewards: Sequence[tuple[float, float, bool]], history: list[str], arm: dict[str, float]
) -> tuple[Floats, list[Floats], list[Floats]]:
    """S, c and d of one group by loops over letters, and an end. rewards: R_str, R_cv, R_fmt of each."""
    s, c, d = np.zeros(len(texts)), [], []
    for i, text in enumerate(texts):
        r_str, r_cv, r_fmt = rewards[i]
        counts = r_fmt or not arm.get("gate_tokens", 1)
        fault = [-1.0 if counts and letter in BAD else 0.0 for letter in text] + [0.0]
        repeat = [0.0] * (len(text) + 1)
        for t in range(1, len(text)):
            pair = text[t - 1 : t + 1]
            if len(history) >= LEAST and counts and ";" not in pair:
                f = sum(pair in other for other in history) / len(history)
                repeat[t] = -max(0.0, f - THETA)
        c.append(np.array(fault))
        d.append(np.array(repeat))
        s[i] = r_str + arm["w_cv"] * (r_cv if r_fmt else 0.0)
        s[i] += arm.get("a_sem", 0.0) * sum(fault) + arm.get("a_div", 0.0) * sum(repeat)
    return s, c, d


def random_texts(rng: np.random.Generator, count: int) -> list[str]:
    return ["".join(rng.choice(list("abcde!z;"), rng.integers(2, 9))) for _ in range(count)]


def group_of(template: ChatTemplate, texts: Sequence[str], rewards: Sequence[tuple[float, float, bool]]) -> Group:
    end = min(template.ends)
    samples = []
    for text, (r_str, r_cv, r_fmt) in zip(texts, rewards, strict=True):
        spans = tuple(Span(t, t + 1, -1.0) for t, letter in enumerate(text) if letter in BAD)
        values: dict[str, Any] = {
            "structure": Value(score=r_str, details={"formatted": int(r_fmt)}),
            "semantic": Value(score=float(not spans), spans=(spans,)),
            "ctcvr": Value(score=r_cv),
        }
        samples.append(trajectory(call(text, [*template.codec.encode(text), end]), rewards=values))
    return group(*samples, prompt=prompt(meta={"product": "p"}))


ARMS: dict[str, tuple[dict[str, float], dict[str, float]]] = {
    "M2": ({"w_cv": 3.0}, {}),
    "M3": ({"w_cv": 3.0, "a_div": 1.0}, {}),
    "M4": ({"w_cv": 3.0, "a_div": 1.0, "a_sem": 0.5}, {}),
    "RELATE": ({"w_cv": 3.0}, {"semantic": W_SEM, "diversity": W_DIV}),
    "RELATE, faults of all texts": ({"w_cv": 3.0, "gate_tokens": 0}, {"semantic": W_SEM, "diversity": W_DIV}),
    "M4, faults of all texts": ({"w_cv": 3.0, "a_div": 1.0, "a_sem": 0.5, "gate_tokens": 0}, {}),
}


@pytest.mark.parametrize("arm", ARMS)
def test_scores_tokens_and_advantages_of_every_arm(template: ChatTemplate, arm: str) -> None:
    """Five groups of one product in a row, two of them in one step: a step sees the history before it."""
    weights, token_weights = ARMS[arm]
    names = {"a_div": "diversity", "a_sem": "semantic"}
    sequence = {names[name]: weight for name, weight in weights.items() if name in names}
    settings = {"exempt": [";"], "window": W, "least": LEAST, "theta": THETA, "sequence": sequence}
    config = GranularCredit.Config(scale=Scale.none, gate_tokens=bool(weights.get("gate_tokens", 1)), **settings)
    part = GranularCredit(config, {"structure": 1.0, "semantic": 0.0, "ctcvr": weights["w_cv"]}, 13, template)
    advantage = GRPO(GRPO.Config(epsilon=EPSILON, token_weights=token_weights))
    rng, history = np.random.default_rng(5), list[str]()
    moved = 0.0
    for step in range(4):
        groups, expected, said = [], [], list[str]()
        for _ in range(2 if step == 2 else 1):
            texts = random_texts(rng, 4)
            rewards = [(float(rng.random()), float(rng.random()), bool(rng.random() < 0.8)) for _ in texts]
            rewards = [(r_str if r_fmt else 0.0, r_cv, r_fmt) for r_str, r_cv, r_fmt in rewards]
            groups.append(group_of(template, texts, rewards))
            expected.append(reference(texts, rewards, history, weights))
            said += texts
        scored = part.score(groups)
        rows = rows_of(scored)
        batch, _ = advantage.assign(rows.batch, rows.scores)
        given = np.split(np.asarray(batch["advantage"])[np.asarray(batch["loss_mask"], bool)], _ends(said)[:-1])
        for number, (s, c, d) in enumerate(expected):
            np.testing.assert_allclose(np.array(scored[number].scores, float), s, atol=1e-6)
            a_sent = (s - s.mean()) / (s.std(ddof=1) + EPSILON)
            for i in range(len(s)):
                by_token = scored[number].token_scores
                np.testing.assert_allclose(_tokens(by_token["diversity"][i], c[i]), d[i], atol=1e-6)
                np.testing.assert_allclose(_tokens(by_token["semantic"][i], c[i]), c[i], atol=1e-6)
                tokens = a_sent[i] + (W_SEM * c[i] + W_DIV * d[i] if token_weights else 0.0) * np.ones(len(c[i]))
                np.testing.assert_allclose(given[4 * number + i], tokens, atol=2e-5)
                moved += float(-d[i].sum())
        history = [*history, *said][-W:]
    assert moved > 0.5, "nothing was repeated"


def _ends(texts: Sequence[str]) -> NDArray[np.int64]:
    return np.cumsum([len(text) + 1 for text in texts])


def _tokens(scores: Any, like: Floats) -> Floats:
    return np.zeros(len(like)) if scores is None else np.asarray(scores, np.float64)


# ------------------------------------------------------------------------------------------- test B: locality


def test_a_fault_moves_its_own_token_and_no_other(template: ChatTemplate) -> None:
    """Gradient of the token part with respect to the logits: exactly 0 but at the fault, where it lowers that token."""
    texts = ["ab;cd!ef", "ba;dcfe"]
    samples = group_of(template, texts, [(1.0, 0.2, True), (1.0, 0.4, True)])
    part = GranularCredit(GranularCredit.Config(scale=Scale.none), {"structure": 1.0, "ctcvr": 3.0}, 13, template)
    rows = rows_of(part.score([samples]))
    streams = []
    for weight in (W_SEM, 0.0):
        advantage = GRPO(GRPO.Config(epsilon=EPSILON, token_weights={"semantic": weight, "diversity": weight}))
        batch, _ = advantage.assign(rows.batch, rows.scores)
        streams.append(np.asarray(batch["advantage"], np.float64))
    ids, mask = np.asarray(rows.batch["token_ids"]), np.asarray(rows.batch["loss_mask"], bool)
    logits = torch.zeros(len(ids), 300, dtype=torch.float64, requires_grad=True)
    said = torch.log_softmax(logits, dim=1)[torch.arange(len(ids)), torch.from_numpy(ids.astype(np.int64))]
    (-(torch.from_numpy(streams[0] - streams[1]) * said * torch.from_numpy(mask)).sum()).backward()
    assert logits.grad is not None
    fault = int(rows.batch.prompt_lengths[0]) + texts[0].index("!")
    others = [place for place in range(len(ids)) if place != fault]
    assert float(logits.grad[others].abs().max()) == 0.0
    assert float(logits.grad[fault, ids[fault]]) > 0  # a step against the gradient lowers its logit
    clean = slice(int(rows.batch.offsets[1]), int(rows.batch.offsets[2]))
    assert (streams[0] == streams[1])[clean].all(), "a clean text has the advantage of the sentence on every token"


# ------------------------------------------------------------------------------------------------ R_cv and its scale


def test_the_loss_of_clicks_and_conversions_is_over_all_impressions() -> None:
    rng = np.random.default_rng(3)
    u, v = rng.normal(size=7), rng.normal(size=7)
    shown = rng.integers(1, 50, 7)
    clicks = rng.binomial(shown, 0.4)
    conversions = rng.binomial(clicks, 0.3)
    total = 0.0
    for n, c, k, a, b in zip(shown, clicks, conversions, u, v, strict=True):
        p_ctr, p_cvr = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
        for chance, count in ((p_ctr, c), (p_ctr * p_cvr, k)):
            total -= count * np.log(chance) + (n - count) * np.log(1 - chance)
    counts = torch.tensor(np.stack([shown, clicks, conversions], axis=1), dtype=torch.float64)
    ours = entire_space_loss(torch.from_numpy(u), torch.from_numpy(v), counts)
    assert float(ours) == pytest.approx(total / shown.sum(), abs=1e-12)


def test_certain_chances_have_a_loss_that_is_a_number() -> None:
    extreme = torch.tensor([60.0, -60.0])
    counts = torch.tensor([[10.0, 5.0, 2.0], [10.0, 5.0, 2.0]])
    extreme.requires_grad_()
    loss = entire_space_loss(extreme, extreme, counts)
    loss.backward()
    assert torch.isfinite(loss) and extreme.grad is not None and torch.isfinite(extreme.grad).all()


def test_scales_of_the_conversion_reward() -> None:
    values = [0.1, 0.4, 0.2, 0.9]
    np.testing.assert_allclose(scaled(values, 0.2, 0.1, 3.0), [-1, 2, 0, 3], atol=1e-9)
    assert ranks([0.1, 0.4, 0.2, 0.4]) == pytest.approx([0, 5 / 6, 1 / 3, 5 / 6]) and ranks([0.3]) == [0.0]
