"""Frozen normalization, tri-factor weights and the combinations beside them, from the digest's symbols."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.recipes.quark_medical import ReferenceFrozen
from raylign.recipes.quark_medical.combiner import Mode, Unmeasured
from raylign.recipes.quark_medical.factors import Factor, Factors, Risk
from raylign.recipes.quark_medical.reference import Scaling
from raylign.records import Absent, Group, Missing
from raylign.testing import group, prompt, trajectory

NAMES = ("orm", "safety", "format")
MU, SIGMA = {"orm": 2.0, "safety": -0.3, "format": 0.5}, {"orm": 4.0, "safety": 0.4, "format": 0.25}


def statistics(folder: Path, rewards: Mapping[str, Any] | None = None) -> str:
    known = rewards or {
        name: {"count": 99, "mean": MU[name], "std": SIGMA[name], "quantiles": {"0": -1.0, "1": 1.0}} for name in NAMES
    }
    path = folder / "statistics.json"
    path.write_text(json.dumps({"rewards": known}))
    return str(path)


def shaper(folder: Path, names: Sequence[str] = NAMES, rewards: Any = None, **settings: Any) -> ReferenceFrozen:
    config = ReferenceFrozen.Config(statistics=statistics(folder, rewards), **settings)
    return ReferenceFrozen(config, dict.fromkeys(names, 1.0), max_tokens=9)


def groups_of(values: np.ndarray, names: Sequence[str] = NAMES, domains: Sequence[str] = ()) -> list[Group]:
    """values: [groups, samples, rewards], NaN: missing."""
    return [
        group(
            *(
                trajectory(
                    "a",
                    rewards={
                        name: Missing(reason="gone") if np.isnan(value) else float(value)
                        for name, value in zip(names, row, strict=True)
                    },
                )
                for row in of_group
            ),
            prompt=prompt(number, domain=domains[number] if domains else ""),
        )
        for number, of_group in enumerate(values)
    ]


def scores(part: ReferenceFrozen, groups: list[Group]) -> list[list[float | None]]:
    return [list(scored.scores) for scored in part.score(groups)]


def draws(seed: int, count: int = 4, size: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    prompts = rng.normal(size=(count, 1, 3)) * [3.0, 0.0, 0.1]
    values = prompts + rng.normal(size=(count, size, 3)) * [4.0, 0.0, 0.2] + [2.0, 0.0, 0.5]
    values[:, :, 1] = -1.0 * (rng.random((count, size)) < 0.3)
    values[:, :, 2] += 0.04 * values[:, :, 0]  # says some of what the ORM says
    return values


# --------------------------------------------------------------------------------------------------- normalization


def test_equal_weights_add_deviations_from_the_reference(tmp_path: Path) -> None:
    values = draws(0)
    wanted = sum(np.clip((values[:, :, k] - MU[name]) / SIGMA[name], -5, 5) for k, name in enumerate(NAMES))
    got = scores(shaper(tmp_path, mode=Mode.equal), groups_of(values))
    np.testing.assert_allclose(np.array(got, float), wanted, atol=1e-12)


def test_weights_of_the_run_multiply_and_zero_is_only_logged(tmp_path: Path) -> None:
    part = ReferenceFrozen(
        ReferenceFrozen.Config(statistics=statistics(tmp_path), mode=Mode.equal),
        {"orm": 2.0, "safety": 0.5, "format": 0.0},
        max_tokens=9,
    )
    values = draws(1)
    wanted = 2 * np.clip((values[:, :, 0] - 2) / 4, -5, 5) + 0.5 * np.clip((values[:, :, 1] + 0.3) / 0.4, -5, 5)
    np.testing.assert_allclose(np.array(scores(part, groups_of(values)), float), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("std", "low", "high", "value", "wanted"),
    [
        (0.0, 0.0, 0.0, -1.0, -5.0),  # no violation at the reference: range 1, sigma 1e-3, clipped
        (0.0, 0.0, 0.0, 0.0, 0.0),
        (0.0316, -1.0, 0.0, -1.0, -5.0),  # a rare binary reward
        (1e-6, 0.0, 100.0, 0.05, 0.5),  # the floor is of the range: 1e-3 * 100
        (0.5, 0.0, 1.0, 10.0, 5.0),
    ],
)
def test_a_deviation_of_nothing_has_a_floor_and_the_rest_is_clipped(
    std: float, low: float, high: float, value: float, wanted: float, tmp_path: Path
) -> None:
    known = {"safety": {"count": 9, "mean": 0.0, "std": std, "quantiles": {"0": low, "1": high}}}
    part = shaper(tmp_path, ["safety"], known, mode=Mode.equal)
    ((got,),) = scores(part, groups_of(np.array([[[value]]]), ["safety"]))
    assert got == pytest.approx(wanted)
    floored = part.metrics(groups_of(np.array([[[value]]]), ["safety"]))[0].group["map/floored"]
    assert floored == float(std < 1e-3 * ((high - low) or 1.0))


def test_statistics_of_the_prompts_domain(tmp_path: Path) -> None:
    of = {"count": 9, "mean": 0.0, "std": 1.0, "quantiles": {"0": -1.0, "1": 1.0}}
    known = {"orm": {**of, "domains": {"a": {**of, "mean": 1.0, "std": 2.0}, "b": {**of, "mean": -1.0}}}}
    values, domains = np.array([[[3.0]], [[3.0]]]), ["a", "b"]
    apart = shaper(tmp_path, ["orm"], known, mode=Mode.equal, scaling=Scaling(domains=True))
    assert scores(apart, groups_of(values, ["orm"], domains)) == [[1.0], [4.0]]
    assert scores(shaper(tmp_path, ["orm"], known, mode=Mode.equal), groups_of(values, ["orm"], domains)) == [[3], [3]]
    with pytest.raises(Exception, match="no two calibrated values of domain 'c', only of a, b"):
        scores(apart, groups_of(values, ["orm"], ["a", "c"]))
    one = shaper(tmp_path, ["orm"], {"orm": of}, mode=Mode.equal, scaling=Scaling(domains=True))
    with pytest.raises(Exception, match="no two calibrated values of domain 'a', only of prompts of one domain"):
        scores(one, groups_of(values, ["orm"], domains))


def test_modes_to_compare_with(tmp_path: Path) -> None:
    values = draws(2)
    flat = values.reshape(-1, 3)
    raw = scores(shaper(tmp_path, mode=Mode.raw), groups_of(values))
    np.testing.assert_allclose(np.array(raw, float), values.sum(axis=2))
    batch = scores(shaper(tmp_path, mode=Mode.batch_z), groups_of(values))
    np.testing.assert_allclose(np.array(batch, float), ((values - flat.mean(0)) / flat.std(0)).sum(axis=2), atol=1e-9)
    values[0, :, 1] = 0.0  # a group in which safety is flat
    grouped = scores(shaper(tmp_path, mode=Mode.group_z), groups_of(values))
    std = values.std(axis=1, keepdims=True)
    z = np.divide(values - values.mean(axis=1, keepdims=True), std, out=np.zeros_like(values), where=std > 0)
    np.testing.assert_allclose(np.array(grouped, float), z.sum(axis=2), atol=1e-9)


# --------------------------------------------------------------------------------------------------------- factors


def reference_weights(batches: Sequence[np.ndarray], t: float, v_max: float, beta: float) -> list[list[float]]:
    """The digest's stage 3 in plain loops: weights after each batch."""
    m: dict[str, float] = {}
    v = None
    c: dict[tuple[str, str], float] = {}
    w = dict.fromkeys(NAMES, 1.0)
    history = []
    for values in batches:
        flat = {name: np.clip((values[:, :, k] - MU[name]) / SIGMA[name], -5, 5) for k, name in enumerate(NAMES)}
        for name in NAMES:
            mean = float(flat[name].mean())
            m[name] = mean if name not in m else 0.9 * m[name] + 0.1 * mean
        rate = float((values[:, :, 1] < 0).mean())
        v = rate if v is None else 0.9 * v + 0.1 * rate
        within = {name: (flat[name] - flat[name].mean(axis=1, keepdims=True)).ravel() for name in NAMES}
        for one in NAMES:
            for other in NAMES:
                a, b = within[one], within[other]
                scale = np.sqrt((a @ a) * (b @ b))
                now = float(a @ b / scale) if scale > 0 else 0.0
                c[one, other] = now if (one, other) not in c else 0.9 * c[one, other] + 0.1 * now
        average = sum(m.values()) / 3
        product = {}
        for name in NAMES:
            f = np.exp(-(m[name] - average) / t)
            g = 1 + (beta if name == "safety" else 0.0) * min(1.0, v / v_max)
            h = 1 / (1 + sum(max(0.0, c[name, other]) for other in NAMES if other != name))
            product[name] = f * g * h
        total = sum(product.values())
        w = {name: min(5.0, max(0.1, 0.9 * w[name] + 0.1 * 3 * product[name] / total)) for name in NAMES}
        history.append([w[name] for name in NAMES])
    return history


@pytest.mark.parametrize(("t", "v_max"), [(1.0, 0.05), (0.5, 0.9)])
def test_weights_step_by_step(t: float, v_max: float, tmp_path: Path) -> None:
    factors = Factors(temperature=t, v_max=v_max, risk={"safety": Risk(floor=0.0, beta=4.0)})
    part = shaper(tmp_path, factors=factors)
    batches = [draws(seed) for seed in range(8)]
    for values, wanted in zip(batches, reference_weights(batches, t, v_max, 4.0), strict=True):
        got = scores(part, groups_of(values))
        np.testing.assert_allclose(part.weighting.weights, wanted, atol=1e-12)
        clipped = [np.clip((values[:, :, k] - MU[name]) / SIGMA[name], -5, 5) for k, name in enumerate(NAMES)]
        np.testing.assert_allclose(np.array(got, float), np.tensordot(wanted, clipped, 1), atol=1e-10)


def test_weights_move_every_so_many_batches_and_stay_within_their_bounds(tmp_path: Path) -> None:
    part = shaper(tmp_path, factors=Factors(every=3, temperature=0.1, ema=0.0, low=0.5, high=2.0))
    seen = []
    for seed in range(6):
        scores(part, groups_of(draws(seed)))
        seen.append(part.weighting.weights.tolist())
    assert seen[0] == seen[1] == [1.0] * 3 != seen[2] == seen[3] == seen[4] != seen[5]
    assert all(0.5 <= weight <= 2.0 for weight in seen[-1]) and {0.5, 2.0} & set(seen[-1])


def test_factors_that_are_off_are_one(tmp_path: Path) -> None:
    part = shaper(tmp_path, factors=Factors(use=[], risk={"safety": Risk()}))
    scores(part, groups_of(draws(3)))
    assert part.weighting.weights.tolist() == [1.0, 1.0, 1.0]
    only = shaper(tmp_path, factors=Factors(use=[Factor.risk], risk={"safety": Risk()}))
    scores(only, groups_of(draws(3)))
    np.testing.assert_allclose(only.weighting.weights, [0.9 + 0.3 / 7, 0.9 + 1.5 / 7, 0.9 + 0.3 / 7])


def test_violations_are_of_the_reward_as_it_is(tmp_path: Path) -> None:
    part = shaper(tmp_path, factors=Factors(use=[Factor.risk], v_max=1.0, risk={"format": Risk(floor=0.3, beta=2.0)}))
    values = draws(5)
    scores(part, groups_of(values))
    rate = (values[:, :, 2] < 0.3).mean()
    assert 0 < rate < 1 and part.weighting.condition.violations[2] == pytest.approx(rate)
    np.testing.assert_allclose(part.weighting.values[Factor.risk], [1, 1, 1 + 2 * rate])


def test_what_differs_between_prompts_is_no_redundancy(tmp_path: Path) -> None:
    """Over a mixed batch the two correlate at nearly 1; within groups they do not."""
    rng = np.random.default_rng(0)
    shared = 10 * rng.normal(size=(200, 1))
    values = np.stack([shared + rng.normal(size=(200, 8)), shared + rng.normal(size=(200, 8))], axis=2)
    known = {name: {"count": 9, "mean": 0.0, "std": 10.0, "quantiles": {"0": 0.0, "1": 1.0}} for name in ("a", "b")}
    part = shaper(tmp_path, ["a", "b"], known)
    scores(part, groups_of(values, ["a", "b"]))
    logged = part.metrics(groups_of(values, ["a", "b"]))[0].group
    assert np.corrcoef(values.reshape(-1, 2).T)[0, 1] > 0.95 and abs(logged["map/corr/a_b"]) < 0.1


def test_a_copy_shares_the_weight_of_its_reward(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = ("one", "two", "three", "copy")
    known = {name: {"count": 9, "mean": 0.0, "std": 1.0, "quantiles": {"0": 0.0, "1": 1.0}} for name in names}
    part = shaper(tmp_path, names, known, factors=Factors(use=[Factor.redundancy]))
    for _ in range(60):
        values = rng.normal(size=(32, 8, 3))
        scores(part, groups_of(np.concatenate([values, values[:, :, :1]], axis=2), names))
    weights = part.weighting.weights
    assert (weights[0] + weights[3]) / weights.sum() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("s", [0.3, 0.1])
def test_a_saturated_reward_keeps_its_scale_and_loses_its_share(s: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    known = {name: {"count": 9, "mean": 0.0, "std": 1.0, "quantiles": {"0": 0.0, "1": 1.0}} for name in ("a", "b")}
    groups = groups_of(rng.normal(size=(100, 30, 2)) * [s, 1.0], ["a", "b"])
    frozen = shaper(tmp_path, ["a", "b"], known, mode=Mode.equal).metrics(groups)[0].group
    batch = shaper(tmp_path, ["a", "b"], known, mode=Mode.batch_z).metrics(groups)[0].group
    assert frozen["map/share/a"] == pytest.approx(s**2 / (1 + s**2), abs=0.02)
    assert batch["map/share/a"] == pytest.approx(0.5, abs=0.02)


# ----------------------------------------------------------------------------------------------- what is not there


def test_a_missing_reward_leaves_no_score_or_counts_as_the_reference(tmp_path: Path) -> None:
    values = draws(4, 2, 4)
    values[0, 1, 0] = np.nan
    whole = shaper(tmp_path, mode=Mode.equal, unmeasured=Unmeasured.no_score)
    assert scores(whole, groups_of(values))[0][1] is None
    neutral = shaper(tmp_path, mode=Mode.equal, unmeasured=Unmeasured.neutral)
    wanted = np.clip((values[0, 1, 1] + 0.3) / 0.4, -5, 5) + np.clip((values[0, 1, 2] - 0.5) / 0.25, -5, 5)
    assert scores(neutral, groups_of(values))[0][1] == pytest.approx(wanted)
    moved = shaper(tmp_path, unmeasured=Unmeasured.neutral)
    scores(moved, groups_of(values))
    flat = np.clip((values[:, :, 0] - 2) / 4, -5, 5).ravel()
    assert moved.weighting.condition.normalized[0] == pytest.approx(np.nanmean(flat)), "and is in no statistic"


def test_a_reward_that_does_not_apply_adds_nothing(tmp_path: Path) -> None:
    rewards = {"orm": 2.0, "safety": Absent(), "format": 0.75}
    asked = group(trajectory("a", rewards=rewards), trajectory("b", rewards=dict.fromkeys(NAMES, Absent())))
    assert scores(shaper(tmp_path, mode=Mode.equal), [asked]) == [[1.0, None]]


def test_a_red_line_is_below_everything_of_its_group(tmp_path: Path) -> None:
    values = np.array([[[50.0, -1.0, 0.5], [-18.0, 0.0, 0.5], [2.0, 0.0, 0.5]]])
    part = shaper(tmp_path, mode=Mode.equal, red_line="safety", factors=Factors(risk={"safety": Risk()}))
    (got,) = scores(part, groups_of(values))
    safe = 0.3 / 0.4
    np.testing.assert_allclose(got, [-5 + safe - 1, -5 + safe, safe])
