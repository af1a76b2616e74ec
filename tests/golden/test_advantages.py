"""Every advantage estimator against its paper's equation in float64."""

from __future__ import annotations

import golden_reference as reference
import numpy as np
import pytest
from golden_toy import ragged, random_batch

from raylign.batch import Batch
from raylign.objectives.advantage.base import GroupAdvantage, KlOrder, KlShare
from raylign.objectives.advantage.gae import GAE, RewardAt
from raylign.objectives.advantage.group import GRPO, RLOO, DrGRPO, Std
from raylign.objectives.advantage.reinforce_pp import ReinforcePlusPlus, ReinforcePlusPlusBaseline
from raylign.objectives.kl import KlEstimator, LogprobSource
from raylign.objectives.whiten import Whiten

NAN = float("nan")


def by_row(batch: Batch) -> list[float]:
    """The advantage of each row, after checking that all of its loss tokens agree and all others are 0."""
    assert not batch["advantage"][~batch["loss_mask"]].any()
    rows = ragged(batch, batch["advantage"])
    assert all(len(set(row)) == 1 for row in rows)
    return [row[0] for row in rows]


def expected_by_group(batch: Batch, scores: np.ndarray, formula) -> list[float]:
    result = []
    for group in np.unique(batch.groups):
        result += formula(scores[batch.groups == group].astype(float).tolist())
    return result


COMPARING = (*(std.name for std in Std), "dr_grpo", "rloo")  # what a group of equals teaches nothing


def estimator(name: str, **fields) -> GroupAdvantage:
    """GRPO by the name of its std, with its fields; or one that has none."""
    if name in Std.__members__:
        return GRPO(GRPO.Config(std=Std[name], **fields))
    return {
        "dr_grpo": DrGRPO(DrGRPO.Config()),
        "rloo": RLOO(RLOO.Config()),
        "rewards": ReinforcePlusPlus(ReinforcePlusPlus.Config(whiten=Whiten.none)),
    }[name]


@pytest.fixture
def batch() -> Batch:
    return random_batch(seed=3, groups=5, size=4)


@pytest.fixture
def scores(batch: Batch) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(len(batch)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("sample", lambda r: reference.grpo(r, 1e-4)),  # TRL, verl
        ("population", lambda r: reference.grpo(r, 1e-4, ddof=0)),
        ("leave_one_out", lambda r: reference.leave_one_out_std(r, 1e-4)),
        ("dr_grpo", lambda r: [x - sum(r) / len(r) for x in r]),
        ("rloo", reference.rloo),
        ("rewards", lambda r: r),
    ],
)
def test_group_estimators(batch: Batch, scores: np.ndarray, name: str, formula) -> None:
    method = estimator(name, epsilon=1e-4)
    done, _ = method.assign(batch, scores)
    np.testing.assert_allclose(by_row(done), expected_by_group(batch, scores, formula), rtol=2e-6)


def test_rloo_equals_scaled_mean_baseline(batch: Batch, scores: np.ndarray) -> None:
    one, _ = RLOO(RLOO.Config()).assign(batch, scores)
    two, _ = DrGRPO(DrGRPO.Config()).assign(batch, scores)
    np.testing.assert_allclose(by_row(one), np.array(by_row(two)) * 4 / 3, rtol=1e-6)


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("score", [0.0, 1.0, 0.1 * 3, 1e9, -7.3])
def test_equal_rewards_give_exactly_zero(batch: Batch, name: str, score: float) -> None:
    method = estimator(name, epsilon=0.0)
    done, metrics = method.assign(batch, np.full(len(batch), score, np.float32))
    assert not done["advantage"].any()
    assert metrics["advantage/flat_groups"] == 1.0


def test_equal_up_to_float32_rounding_is_equal(batch: Batch) -> None:
    scores = np.where(np.arange(len(batch)) % 2, np.float32(0.3), np.float32(0.1) + np.float32(0.2)).astype(np.float32)
    scores[0] = np.nextafter(scores[0], 1)
    done, _ = GRPO(GRPO.Config(epsilon=0.0)).assign(batch, scores)
    assert not done["advantage"].any()


@pytest.mark.parametrize("name", COMPARING)
def test_singleton_group_gives_exactly_zero(name: str) -> None:
    batch = random_batch(groups=3, size=1)
    done, _ = estimator(name).assign(batch, np.array([5, -2, 1], np.float32))
    assert not done["advantage"].any()


def test_invalid_sample_has_no_part_in_anything(batch: Batch, scores: np.ndarray) -> None:
    broken = scores.copy()
    broken[[0, 5]] = NAN
    method = GRPO(GRPO.Config(epsilon=1e-4))
    done, metrics = method.assign(batch, broken)
    for row in (0, 5):
        assert not done.row(row, "advantage").any()
        assert not done.row(row, "weight").any()
    others = reference.grpo(scores[1:4].astype(float).tolist(), 1e-4)
    np.testing.assert_allclose(by_row(done)[1:4], others, rtol=2e-6)
    assert metrics["advantage/invalid_rows"] == pytest.approx(2 / 20)
    assert done.row(1, "weight").all()


def test_group_with_one_valid_sample_is_zero(batch: Batch, scores: np.ndarray) -> None:
    broken = scores.copy()
    broken[1:4] = NAN
    done, _ = GRPO(GRPO.Config()).assign(batch, broken)
    assert by_row(done)[:4] == [0, 0, 0, 0]


def test_infinite_score_is_refused(batch: Batch, scores: np.ndarray) -> None:
    broken = scores.copy()
    broken[3] = np.inf
    with pytest.raises(ValueError, match="row 3 is infinite"):
        GRPO(GRPO.Config()).assign(batch, broken)


def test_leave_one_out_std_of_a_lone_success_is_undivided() -> None:
    batch = random_batch(groups=1, size=4)
    done, _ = GRPO(GRPO.Config(std=Std.leave_one_out)).assign(batch, np.array([1, 0, 0, 0], np.float32))
    assert by_row(done)[0] == pytest.approx(0.75)


def row_kl(batch: Batch, name: str = "k1", own: str = "sampler_logprob") -> list[list[float]]:
    pairs = zip(ragged(batch, batch[own]), ragged(batch, batch["ref_logprob"]), strict=True)
    return [[reference.k(name, x, y) for x, y in zip(mine, refs, strict=True)] for mine, refs in pairs]


def test_reinforce_pp(batch: Batch, scores: np.ndarray) -> None:
    """arXiv:2501.03262: A_t = R - beta sum_{i >= t} KL_i, whitened over all action tokens of the batch."""
    config = ReinforcePlusPlus.Config(kl_coef=0.1)
    done, _ = ReinforcePlusPlus(config).assign(batch, scores)
    raw = [
        [float(score) - 0.1 * rest for rest in reference.kl_to_go(kl)]
        for score, kl in zip(scores, row_kl(batch), strict=True)
    ]
    for mine, theirs in zip(ragged(done, done["advantage"]), reference.whitened(raw), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert not done["advantage"][~done["loss_mask"]].any()


def test_reinforce_pp_baseline(batch: Batch, scores: np.ndarray) -> None:
    config = ReinforcePlusPlusBaseline.Config()
    done, _ = ReinforcePlusPlusBaseline(config).assign(batch, scores)
    centred = expected_by_group(batch, scores, lambda r: [x - sum(r) / len(r) for x in r])
    raw = [[a] * len(row) for a, row in zip(centred, ragged(batch, batch["advantage"]), strict=True)]
    for mine, theirs in zip(ragged(done, done["advantage"]), reference.whitened(raw), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_whitening_leaves_out_invalid_and_observation_tokens(batch: Batch, scores: np.ndarray) -> None:
    broken = scores.copy()
    broken[2] = NAN
    done, _ = GRPO(GRPO.Config(whiten=Whiten.batch)).assign(batch, broken)
    counted = done["loss_mask"] & (done["weight"] != 0)
    assert done["advantage"][counted].mean() == pytest.approx(0, abs=1e-6)
    assert done["advantage"][counted].std() == pytest.approx(1, abs=1e-5)
    assert not done["advantage"][~counted].any()


def test_whitening_equal_values_gives_exactly_zero(batch: Batch) -> None:
    config = ReinforcePlusPlus.Config()
    done, _ = ReinforcePlusPlus(config).assign(batch, np.full(len(batch), 0.3, np.float32))
    assert not done["advantage"].any()


@pytest.mark.parametrize("source", list(LogprobSource))
def test_kl_before_the_baseline_enters_once(batch: Batch, scores: np.ndarray, source: LogprobSource) -> None:
    """RLOO: the penalised return R - beta sum KL goes through the baseline, and nowhere else."""
    config = RLOO.Config(kl_coef=0.05, kl_logprob=source)
    method = RLOO(config)
    done, _ = method.assign(batch, scores)
    own = "sampler_logprob" if source is LogprobSource.sampler else "old_logprob"
    penalised = np.array(
        [float(s) - 0.05 * sum(kl) for s, kl in zip(scores, row_kl(batch, own=own), strict=True)], np.float64
    )
    np.testing.assert_allclose(by_row(done), expected_by_group(batch, penalised, reference.rloo), rtol=2e-6)
    assert method.needs == {"ref_logprob"} | ({"old_logprob"} if source is LogprobSource.recompute else set())


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
def test_kl_after_the_baseline_enters_once(batch: Batch, scores: np.ndarray, name: str) -> None:
    config = GRPO.Config(epsilon=1e-4, kl_coef=0.05, kl_estimator=KlEstimator[name], kl_order=KlOrder.after_baseline)
    done, _ = GRPO(config).assign(batch, scores)
    plain = expected_by_group(batch, scores, lambda r: reference.grpo(r, 1e-4))
    expected = [a - 0.05 * sum(kl) for a, kl in zip(plain, row_kl(batch, name), strict=True)]
    np.testing.assert_allclose(by_row(done), expected, rtol=2e-6, atol=1e-7)


def test_kl_to_go_before_a_row_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="set kl_order=after_baseline"):
        GRPO.Config(kl_coef=0.1, kl_share=KlShare.to_go)


def test_group_order_does_not_matter(batch: Batch, scores: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(len(batch))
    method = GRPO(GRPO.Config(whiten=Whiten.batch))
    one, _ = method.assign(batch, scores)
    two, _ = method.assign(batch.select(order), scores[order])
    np.testing.assert_allclose(one.select(order)["advantage"], two["advantage"], rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------ GAE


def gae_rows(batch: Batch, scores: np.ndarray, gamma: float, lam: float, turn=None, kl_coef: float = 0.0):
    for row, score in enumerate(scores):
        mask = batch.row(row, "loss_mask")
        reward = np.zeros(len(mask)) if turn is None else turn[batch.offsets[row] : batch.offsets[row + 1]].copy()
        reward -= kl_coef * np.where(mask, batch.row(row, "sampler_logprob") - batch.row(row, "ref_logprob"), 0.0)
        reward[np.flatnonzero(mask)[-1]] += score
        yield reference.gae_carry_through(reward, batch.row(row, "value"), mask, gamma, lam)


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.95), (0.99, 0.0)])
def test_gae_carries_through_observations(batch: Batch, scores: np.ndarray, gamma: float, lam: float) -> None:
    """Ours computes on compacted rows; the reference recursion walks over every token."""
    method = GAE(GAE.Config(gamma=gamma, lam=lam, whiten=Whiten.none))
    done, _ = method.assign(batch, scores)
    for row, (advantage, returns) in enumerate(gae_rows(batch, scores, gamma, lam)):
        np.testing.assert_allclose(done.row(row, "advantage"), advantage, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(done.row(row, "return"), returns, rtol=2e-6, atol=1e-6)
    assert method.needs == {"value"}


def test_gae_equals_compaction_and_zeroing_does_not() -> None:
    batch = random_batch(seed=8, groups=4, size=3)
    mask = batch["loss_mask"]
    assert any(np.any(np.diff(np.flatnonzero(batch.row(i, "loss_mask"))) > 1) for i in range(len(batch)))
    kept = mask | ~np.array([mask[a:b][: k + 1].any() for a, b, k in _positions(batch)])  # prompt and sampled tokens
    compact = Batch(
        offsets=np.concatenate([[0], np.cumsum(np.bincount(batch.row_of_token[kept], minlength=len(batch)))]),
        prompt_lengths=batch.prompt_lengths,
        groups=batch.groups,
        streams={name: stream[kept] for name, stream in batch.streams.items()},
    )
    scores = np.random.default_rng(2).standard_normal(len(batch)).astype(np.float32)
    method = GAE(GAE.Config(lam=0.95))
    one, two = method.assign(batch, scores)[0], method.assign(compact, scores)[0]
    np.testing.assert_array_equal(one["advantage"][kept], two["advantage"])
    np.testing.assert_array_equal(one["return"][kept], two["return"])
    toy = {"reward": [0, 0, 0, 1.0], "value": [0.5, 0, 0.8, 0.9], "action": [True, False, True, True]}
    right = reference.gae_carry_through(gamma=1.0, lam=0.95, **toy)[0]
    assert abs(right[0] - reference.gae_zeroing(gamma=1.0, lam=0.95, **toy)[0]) > 0.01


def _positions(batch: Batch):
    for a, b in zip(batch.offsets[:-1], batch.offsets[1:], strict=True):
        yield from ((a, b, k) for k in range(b - a))


def test_gae_turn_rewards_and_kl(batch: Batch, scores: np.ndarray) -> None:
    turn = np.where(batch["loss_mask"], np.random.default_rng(4).standard_normal(batch.tokens), 0.0)
    turn *= np.random.default_rng(5).random(batch.tokens) < 0.3
    config = GAE.Config(gamma=0.97, lam=0.9, whiten=Whiten.none, kl_coef=0.05, reward_at=RewardAt.both)
    method = GAE(config)
    done, _ = method.assign(batch.with_streams(turn_reward=turn), scores)
    for row, (advantage, returns) in enumerate(gae_rows(batch, scores, 0.97, 0.9, turn, 0.05)):
        np.testing.assert_allclose(done.row(row, "advantage"), advantage, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(done.row(row, "return"), returns, rtol=2e-6, atol=1e-6)
    assert method.needs == {"value", "ref_logprob"}


def test_gae_whitens_advantages_not_returns(batch: Batch, scores: np.ndarray) -> None:
    plain, _ = GAE(GAE.Config(whiten=Whiten.none)).assign(batch, scores)
    done, _ = GAE(GAE.Config()).assign(batch, scores)
    expected = reference.whitened(ragged(plain, plain["advantage"]))
    for mine, theirs in zip(ragged(done, done["advantage"]), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(plain["return"], done["return"])


def test_gae_invalid_row(batch: Batch, scores: np.ndarray) -> None:
    broken = scores.copy()
    broken[1] = NAN
    done, _ = GAE(GAE.Config()).assign(batch, broken)
    assert not done.row(1, "advantage").any()
    assert not done.row(1, "weight").any()
    np.testing.assert_array_equal(done.row(1, "return"), batch.row(1, "value").astype(np.float32))


def test_gae_turn_reward_on_an_observation_is_refused(batch: Batch, scores: np.ndarray) -> None:
    turn = np.zeros(batch.tokens)
    turn[0] = 1.0
    with pytest.raises(ValueError, match="token 0, from which nothing is learned"):
        GAE(GAE.Config(reward_at=RewardAt.turns)).assign(batch.with_streams(turn_reward=turn), scores)


def test_gae_reward_at_end_or_turns(batch: Batch, scores: np.ndarray) -> None:
    """`end` sees the score alone, `turns` the turns alone; together they are `both` (the recursion is linear)."""
    turn = np.where(batch["loss_mask"], np.random.default_rng(4).standard_normal(batch.tokens), 0.0)
    with_turns = batch.with_streams(turn_reward=turn, value=np.zeros(batch.tokens))

    def advantage(at: RewardAt) -> np.ndarray:
        return GAE(GAE.Config(whiten=Whiten.none, reward_at=at)).assign(with_turns, scores)[0]["advantage"]

    np.testing.assert_array_equal(
        advantage(RewardAt.end),
        GAE(GAE.Config(whiten=Whiten.none)).assign(batch.with_streams(value=np.zeros(batch.tokens)), scores)[0][
            "advantage"
        ],
    )
    np.testing.assert_allclose(advantage(RewardAt.both), advantage(RewardAt.end) + advantage(RewardAt.turns), atol=1e-5)
    assert not np.allclose(advantage(RewardAt.turns), advantage(RewardAt.end))


def test_rows_without_sampled_tokens_do_no_harm() -> None:
    """An empty response: no index -1 into the neighbour's tokens."""
    batch = random_batch(groups=2, size=3)
    mask = batch["loss_mask"].copy()
    mask[batch.offsets[2] : batch.offsets[3]] = False
    batch = batch.with_streams(loss_mask=mask)
    scores = np.array([1, 0, 9, 1, 0, 0], np.float32)
    plain = scores.copy()
    plain[2] = 0
    config = GAE.Config(whiten=Whiten.none)
    one, two = (GAE(config).assign(batch, s)[0] for s in (scores, plain))
    np.testing.assert_array_equal(one["advantage"], two["advantage"])
    done, _ = GRPO(GRPO.Config()).assign(batch, scores)
    assert not done.row(2, "advantage").any()
