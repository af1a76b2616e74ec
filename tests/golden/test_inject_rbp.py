"""The equations of InjectRBP in plain float64, from its digest's symbols, against the recipe's; and its pitfalls."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest

from raylign.recipes.inject_rbp import differences, families, history, paired, patterns, policies, values

B = "OPSEVC"
BOS = "^"
B_STATE = {families.state_name(state): state for state in range(49)}
Table = dict[tuple[str, str], float]  # (state, action) -> number


def corpus(count: int = 60, seed: int = 0, longest: int = 11) -> tuple[list[str], list[float]]:
    """Random chains, some of which conclude in their middle, and R of each."""
    rng = np.random.default_rng(seed)
    chains = [
        "".join(rng.choice(list(B), rng.integers(1, longest), p=[0.1, 0.4, 0.1, 0.2, 0.1, 0.1])) for _ in range(count)
    ]
    return chains, [float(value) for value in rng.integers(0, 2, count)]


def steps(chain: str, longest: int) -> list[tuple[str, str]]:
    """(s_t, a_t) of the episode: to the first C, at most L_max."""
    pairs, state = [], BOS + BOS
    for symbol in chain[:longest]:
        pairs.append((state, symbol))
        state = state[1] + symbol
        if symbol == "C":
            break
    return pairs


def by_name(found: values.Values) -> tuple[Table, Table]:
    """Q and N of the pairs that were seen."""
    cells = [(state, action) for state in range(49) for action in range(6) if found.n[state, action]]
    names = {cell: (families.state_name(cell[0]), B[cell[1]]) for cell in cells}
    return {names[c]: found.q[c] for c in cells}, {names[c]: found.n[c] for c in cells}


# --------------------------------------------------------------------------------------------------------- patterns


def test_frequencies_of_patterns_and_their_sum() -> None:
    chains, _ = corpus()
    freq: dict[str, int] = defaultdict(int)
    for chain in chains:
        for t in range(len(chain) - 2):
            freq[chain[t] + chain[t + 1] + chain[t + 2]] += 1
    counted = patterns.frequencies(chains)
    assert {gram: int(n) for gram, n in zip(patterns.GRAMS, counted, strict=True) if n} == dict(freq)
    assert counted.sum() == sum(max(0, len(chain) - 2) for chain in chains)
    np.testing.assert_array_equal(patterns.counts_of(chains).sum(0), counted)
    np.testing.assert_allclose(patterns.distribution(counted), counted / counted.sum(), rtol=1e-15)
    assert not patterns.distribution(patterns.frequencies(["OP", ""])).any(), "no pattern is no distribution"


def test_repeated_symbols_are_not_collapsed() -> None:
    assert {g: int(n) for g, n in zip(patterns.GRAMS, patterns.frequencies(["OPPPP"]), strict=True) if n} == {
        "OPP": 1,
        "PPP": 2,
    }


def test_the_top_patterns_share_one_among_themselves() -> None:
    p = patterns.distribution(patterns.frequencies(["OPVPVC", "OPVC", "PPP"]))
    shown = patterns.top(p, 2)
    assert list(shown) == ["OPV", "PVC"] and shown["OPV"] == pytest.approx(0.5)
    assert sum(patterns.top(p, 99).values()) == pytest.approx(1) and len(patterns.top(p, 99)) == 5


def test_jensen_shannon() -> None:
    rng = np.random.default_rng(1)
    p, q = rng.dirichlet(np.ones(216)), rng.dirichlet(np.ones(216))
    p[:50], q[100:150] = 0, 0
    p, q = p / p.sum(), q / q.sum()
    m = (p + q) / 2
    by_hand = sum(x * math.log2(x / z) / 2 for x, z in zip(p, m, strict=True) if x > 0)
    by_hand += sum(y * math.log2(y / z) / 2 for y, z in zip(q, m, strict=True) if y > 0)
    assert float(patterns.jensen_shannon(p, q)) == pytest.approx(by_hand, rel=1e-12)
    assert float(patterns.jensen_shannon(p, p)) == 0
    assert float(patterns.jensen_shannon(np.eye(216)[0], np.eye(216)[1])) == pytest.approx(1)


def test_p_by_permutation_is_that_of_all_ways_to_take_sides() -> None:
    chains = ["OPVC", "OPVC", "EEEC", "PPPC", "OPVPVC"]
    counts, first = patterns.counts_of(chains), np.array([True, True, False, False, False])

    def apart(side: tuple[int, ...]) -> float:
        one = counts[list(side)].sum(0)
        other = counts.sum(0) - one
        return float(patterns.jensen_shannon(one / one.sum(), other / other.sum()))

    every = [apart(side) for side in itertools.combinations(range(5), 2)]
    exact = sum(value >= apart((0, 1)) - 1e-12 for value in every) / len(every)
    tested = differences.difference(counts, first, list("abcde"), 4000, seed=1)
    assert tested is not None and tested.divergence == pytest.approx(apart((0, 1)))
    assert tested.p == pytest.approx(exact, abs=0.03)
    assert differences.difference(counts, np.ones(5, bool), list("abcde"), 9, seed=1) is None


def test_answers_to_one_question_are_permuted_as_one_or_among_themselves() -> None:
    """Eight copies of the same answers make no difference surer; what differs by question alone is no difference."""
    chains = ["OPVC"] * 16 + ["EEEC"] * 16
    counts, first = patterns.counts_of(chains), np.array([True] * 16 + [False] * 16)
    questions = [str(number // 8) for number in range(32)]
    loose = differences.difference(counts, first, [str(n) for n in range(32)], 999, seed=1)
    whole = differences.difference(counts, first, questions, 999, seed=1)
    assert loose is not None and whole is not None
    assert loose.p == pytest.approx(1 / 1000) and whole.p == pytest.approx(2 / 6, abs=0.05)
    mixed = np.array(([True] * 7 + [False]) * 2 + ([True] + [False] * 7) * 2)
    within = differences.difference_within(counts, mixed, questions, 999, seed=1)
    free = differences.difference(counts, mixed, [str(n) for n in range(32)], 999, seed=1)
    assert within is not None and free is not None and within.divergence == free.divergence > 0
    assert within.p == 1 and free.p < 0.05, "hard questions are answered by other patterns, right or wrong"


# ----------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(("gamma", "longest"), [(0.98, 14), (1.0, 14), (0.9, 6)])
def test_monte_carlo_values(gamma: float, longest: int) -> None:
    chains, rewards = corpus()
    returns: dict[tuple[str, str], list[float]] = defaultdict(list)
    for chain, reward in zip(chains, rewards, strict=True):
        episode = steps(chain, longest)
        for t, pair in enumerate(episode):
            returns[pair].append(gamma ** (len(episode) - 1 - t) * reward)
    found = values.monte_carlo(chains, rewards, gamma, longest)
    q, n = by_name(found)
    assert n == {pair: len(each) for pair, each in returns.items()}
    for pair, each in returns.items():
        assert q[pair] == pytest.approx(sum(each) / len(each), abs=1e-12)
    for state in {state for state, _ in n}:
        total = sum(n[s, a] for s, a in n if s == state)
        mean = sum(n[s, a] * q[s, a] for s, a in n if s == state) / total
        assert found.v[B_STATE[state]] == pytest.approx(mean, abs=1e-12)


def test_the_table_of_last_symbols_is_the_every_visit_mean_of_them() -> None:
    chains, rewards = corpus()
    returns: dict[tuple[str, str], list[float]] = defaultdict(list)
    for chain, reward in zip(chains, rewards, strict=True):
        episode = steps(chain, 14)
        for t, (state, action) in enumerate(episode):
            returns[state[1], action].append(0.98 ** (len(episode) - 1 - t) * reward)
    shorter = values.monte_carlo(chains, rewards, 0.98, 14).shorter()
    for (last, action), each in returns.items():
        cell = (f"{B}^".index(last), B.index(action))
        assert shorter.n[cell] == len(each) and shorter.q[cell] == pytest.approx(sum(each) / len(each), abs=1e-12)
    assert shorter.n.sum() == sum(map(len, returns.values()))


@pytest.mark.parametrize("least", [1, 3])
def test_fitted_q_iteration(least: int, gamma: float = 0.9, sweeps: int = 200) -> None:
    chains, rewards = corpus()
    logged: dict[tuple[str, str], list[tuple[float, str | None]]] = defaultdict(list)
    for chain, reward in zip(chains, rewards, strict=True):
        episode = steps(chain, 14)
        for t, (state, action) in enumerate(episode):
            last = t + 1 == len(episode)
            logged[state, action].append((reward if last else 0.0, None if last else state[1] + action))
    q = dict.fromkeys(logged, 0.0)
    for _ in range(sweeps):
        following = {}
        for state in {state for state, _ in logged}:
            actions = [a for s, a in logged if s == state]
            trusted = [q[state, a] for a in actions if len(logged[state, a]) >= least]
            visits = sum(len(logged[state, a]) for a in actions)
            mean = sum(len(logged[state, a]) * q[state, a] for a in actions) / visits
            following[state] = max(trusted) if trusted else mean
        q = {
            pair: sum(r + (gamma * following[after] if after else 0.0) for r, after in seen) / len(seen)
            for pair, seen in logged.items()
        }
    found, _ = by_name(values.fitted_q(chains, rewards, gamma, 14, least=least, sweeps=sweeps))
    assert found.keys() == q.keys()
    for pair, value in q.items():
        assert found[pair] == pytest.approx(value, abs=1e-9), pair


def test_q_iteration_joins_halves_of_different_chains() -> None:
    """OP went on badly and PV was never reached by O: the maximum puts the good halves together, the mean does not."""
    chains = ["OPSC"] * 6 + ["EPVC"] * 6 + ["OPVC"] * 3
    rewards = [0.0] * 6 + [1.0] * 6 + [1.0] * 3
    state, action = B_STATE["^O"], B.index("P")
    mean = values.monte_carlo(chains, rewards, 1.0, 9).q[state, action]
    best = values.fitted_q(chains, rewards, 1.0, 9).q[state, action]
    assert mean == pytest.approx(3 / 9) and best == pytest.approx(1)


def test_a_short_right_chain_is_worth_more_with_a_discount() -> None:
    found = values.monte_carlo(["OPC", "O" + "P" * 9 + "C"], [1.0, 1.0], 0.98, 14)
    start = found.q[B_STATE["^^"], B.index("O")]
    assert start == pytest.approx((0.98**2 + 0.98**10) / 2) and pytest.approx(0.82, abs=0.005) == 0.98**10
    plain = values.monte_carlo(["OPC", "O" + "P" * 9 + "C"], [1.0, 1.0], 1.0, 14)
    assert plain.q[B_STATE["^^"], B.index("O")] == 1


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("zero_one", [1, 0, 1, 1]), ("plus_minus", [1, -1, 1, 1]), ("centred", [0.5, -0.5, 0, 0])],
)
def test_outcomes(outcome: str, expected: list[float]) -> None:
    traces = [
        history.Trace(family="", asked=asked, bare=asked, chain="OPC", score=score)
        for asked, score in (("hard", 1.0), ("hard", 0.0), ("easy", 1.0), ("easy", 1.0))
    ]
    how = families.Estimation(
        values=values.ValueEstimate.mc,
        gamma=1.0,
        outcome=families.Outcome(outcome),
        least=3,
        sweeps=1,
        right=0.5,
        longest=9,
    )
    assert families.rewards_of(traces, how) == expected


# --------------------------------------------------------------------------------------------------------- policies


def softmax(tau: float = 0.05, kappa: float = 5.0, least: int = 3) -> policies.Softmax:
    return policies.Softmax(tau=tau, kappa=kappa, least=least)


def test_reliability_in_closed_form() -> None:
    """Test B of the digest: a lucky action that was seen once wins the naive softmax, and not the reliable one."""
    n, q = np.array([200, 1, 1, 1]), np.array([0.6, 1, 0, 1])
    v = float((n * q).sum() / n.sum())
    rho = n / (n + 5)
    weights = rho * np.exp(rho * (q - v) / 0.05)
    reliable = softmax().probabilities(q, n)
    np.testing.assert_allclose(reliable, weights / weights.sum(), rtol=1e-12)
    naive = softmax(kappa=0).probabilities(q, n)
    exact = np.exp((q - v) / 0.05)
    np.testing.assert_allclose(naive, exact / exact.sum(), rtol=1e-12)
    assert naive[0] < 0.001 and 0.40 <= reliable[0] == pytest.approx(0.43, abs=0.01)


def test_what_was_never_seen_is_never_chosen() -> None:
    probabilities = softmax().probabilities(np.array([0.0, -1.0, 0, 0, 0, 0]), np.array([0, 2, 0, 0, 1, 0]))
    assert (probabilities > 0).tolist() == [False, True, False, False, True, False]
    extreme = softmax(tau=1e-3).probabilities(np.array([1.0, -1.0]), np.array([9, 9]))
    assert np.isfinite(extreme).all() and extreme.sum() == pytest.approx(1)


def test_the_policy_backs_off_by_visits() -> None:
    chains, rewards = corpus(30)
    found = values.monte_carlo(chains, rewards, 0.98, 14)
    shorter, backed = found.shorter(), policies.markov(chains, 14)
    policy, levels = softmax().policy(found, backed), softmax().levels(found)
    assert set(levels) == {0, 1, 2}, "the corpus has states of all three kinds"
    for name, state in B_STATE.items():
        last = f"{B}^".index(name[1])
        if found.n[state].sum() >= 3:
            expected = softmax().probabilities(found.q[state], found.n[state])
        elif shorter.n[last].sum() >= 3:
            expected = softmax().probabilities(shorter.q[last], shorter.n[last])
        else:
            expected = backed[state]
        np.testing.assert_allclose(policy[state], expected, rtol=1e-12)
    np.testing.assert_allclose(policy.sum(1), 1, rtol=1e-12)


def test_the_markov_chain_of_right_answers() -> None:
    chains = ["OPVC", "OPPC", "EPVC"]
    table = policies.markov(chains, 14)
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for chain in chains:
        for state, action in steps(chain, 14):
            counts[state][action] += 1
    for state, following in counts.items():
        expected = [following[action] / sum(following.values()) for action in B]
        np.testing.assert_allclose(table[B_STATE[state]], expected, rtol=1e-12)
    np.testing.assert_allclose(table[B_STATE["SP"]], [0, 1 / 4, 0, 0, 2 / 4, 1 / 4], err_msg="by P alone")
    np.testing.assert_allclose(table[B_STATE["SS"]], np.array([2, 4, 0, 1, 2, 3]) / 12, err_msg="by neither")


def test_rolled_chains_end_with_their_only_conclusion_or_at_the_limit() -> None:
    chains, _ = corpus()
    rolled = policies.roll(policies.markov(chains, 14), np.random.default_rng(0), 400, 7)
    assert all("C" not in chain[:-1] for chain in rolled)
    assert all(chain.endswith("C") or len(chain) == 7 for chain in rolled) and len(set(map(len, rolled))) > 3


def test_rolled_chains_have_the_policys_probabilities() -> None:
    policy = np.tile(np.array([0.1, 0.5, 0, 0.2, 0, 0.2]), (49, 1))
    first = [chain[0] for chain in policies.roll(policy, np.random.default_rng(0), 20_000, 3)]
    shares = [first.count(symbol) / len(first) for symbol in B]
    np.testing.assert_allclose(shares, [0.1, 0.5, 0, 0.2, 0, 0.2], atol=0.01)
    assert shares[2] == shares[4] == 0


def test_the_best_chain_is_that_of_the_most_reliable_values() -> None:
    chains = ["OPVC"] * 40 + ["OPPC"] * 40 + ["EVC"]
    rewards = [1.0] * 30 + [0.0] * 10 + [1.0] * 10 + [0.0] * 30 + [1.0]
    found = values.monte_carlo(chains, rewards, 1.0, 9)

    def by_hand(chain: str, kappa: float) -> float:
        q, n = by_name(found)
        rho = {pair: n.get(pair, 0) / (n.get(pair, 0) + kappa) for pair in steps(chain, 9) if n.get(pair, 0)}
        return sum(rho[pair] * q[pair] for pair in rho) / sum(rho.values()) if rho else -math.inf

    for chain in ("OPVC", "OPPC", "EVC", "OPV"):
        assert policies.estimated_return(chain, found, 5.0) == pytest.approx(by_hand(chain, 5.0))
    assert policies.estimated_return("SSS", found, 5.0) == -math.inf
    assert policies.best_of(["OPPC", "OPVC", "OPPC"], found, 5.0) == "OPVC"


def test_entropy_of_the_policy() -> None:
    policy = np.tile(np.array([0.5, 0.25, 0.25, 0, 0, 0]), (49, 1))
    np.testing.assert_allclose(policies.entropies(policy), 1.5 * math.log(2), rtol=1e-12)


# ------------------------------------------------------------------------------------------------------------- gain


def test_the_gain_is_paired_by_question() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(400)
    there = {str(i): float(hard[i]) for i in range(400)}
    here = {str(i): float(hard[i] + 0.05 + 0.02 * rng.normal()) for i in range(400)}
    gain = paired.gain_over(here, there | {"only": 1.0}, 500, 0.95)
    assert gain["gain"] == pytest.approx(np.mean([here[name] - there[name] for name in there]))
    assert gain["paired"] == pytest.approx(400 / 401)
    width = gain["gain_high"] - gain["gain_low"]
    assert width == pytest.approx(2 * 1.96 * 0.02 / 20, rel=0.2), "questions, not their spread of difficulty"
    assert paired.gain_over({"a": 1.0}, {"b": 1.0}, 9, 0.95) == {"paired": 0.0}
