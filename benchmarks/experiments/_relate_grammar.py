"""Part A of RELATE's experiment: a policy of three tables that writes ads of letters, all samples in step, in NumPy.

54 letters: an end, a separator, 24 attributes (3 true ones of each of 8 products), 8 hooks, 4 banned superlatives, 16
fillers. At most 13 letters, the end included. The policy is the softmax of a table by product, one by the letter
before and one by place; it begins at the mix that ads were written in so far. A text is an ad (R_str = 1) that ends,
has 5 to 11 letters and exactly one separator among them, and not at an edge. CTCVR pays for superlatives.

What the digest leaves open was chosen by its figures of M1 to M4, before RELATE was run so: the noise of the start, and
that CTCVR is 0 for a text that does not end while its letters are scored like any other's (`GranularCredit`:
gate_tokens=false). Without that, M2 writes no ad at all; with CTCVR for ads alone M3 and M4 have too much structure.

An update draws 8 samples of each product and follows mean_i (1 / |y_i|) sum_t A_{i,t} grad log pi with Adam.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PRODUCTS, LENGTH, GROUP, UPDATES, RATE = 8, 13, 8, 150, 0.05
END, SEPARATOR = 0, 1
ATTRIBUTES, HOOKS, BANNED, FILLERS = (np.arange(*ends) for ends in ((2, 26), (26, 34), (34, 38), (38, 54)))
LETTERS, START = 54, 54
MIX = {"true": 0.33, "other": 0.10, "hook": 0.12, "banned": 0.08, "filler": 0.37}
NOISE = 0.5  # of the starting logits
WINDOW, LEAST, THETA = 64, 8, 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What enters S (weights of CTCVR and of summed token scores), and the advantages of single tokens.

    Example: ``Arm(sem=1.0, div=6.0)`` is RELATE, ``Arm(a_div=1.0, a_sem=0.5)`` M4
    """

    cv: float = 3.0
    a_div: float = 0.0
    a_sem: float = 0.0
    sem: float = 0.0
    div: float = 0.0


ARMS = {
    "M1": Arm(cv=0.0),
    "M2": Arm(),
    "M3": Arm(a_div=1.0),
    "M4": Arm(a_div=1.0, a_sem=0.5),
    "RELATE": Arm(sem=1.0, div=6.0),
    "RELATE (1, 12)": Arm(sem=1.0, div=12.0),
    "M4 retuned": Arm(a_div=3.0, a_sem=1.0),
}


@dataclass(slots=True)
class Ads:
    """Samples of all products: `letters` after the end are END, `there` says which were sampled. [N, LENGTH]"""

    product: Ints  # [N]
    letters: Ints
    there: Bools

    @property
    def body(self) -> Bools:
        """Letters but end and separator."""
        return self.there & (self.letters > SEPARATOR)


@dataclass(slots=True)
class Policy:
    """Logits by product, by the letter before, and by place."""

    product: Floats
    before: Floats
    place: Floats
    moments: list[Floats] = field(default_factory=list)
    steps: int = 0

    @property
    def tables(self) -> tuple[Floats, Floats, Floats]:
        """All parameters."""
        return self.product, self.before, self.place

    def chances(self, product: Ints, before: Ints, place: int) -> Floats:
        """[N, LETTERS] of the next letter."""
        logits = self.product[product] + self.before[before] + self.place[place]
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: Floats = shifted / shifted.sum(axis=1, keepdims=True)
        return result

    def sample(self, each: int, rng: np.random.Generator) -> Ads:
        """`each` ads of every product, those of one side by side."""
        product = np.repeat(np.arange(PRODUCTS), each)
        letters, there = np.zeros((len(product), LENGTH), np.int64), np.zeros((len(product), LENGTH), bool)
        before, going = np.full(len(product), START), np.ones(len(product), bool)
        for place in range(LENGTH):
            ladder = self.chances(product, before, place).cumsum(axis=1)
            drawn = np.minimum((rng.random(len(product))[:, None] > ladder).sum(axis=1), LETTERS - 1)
            letters[:, place], there[:, place] = np.where(going, drawn, END), going
            going &= drawn != END
            before = letters[:, place]
        return Ads(product, letters, there)

    def learn(self, ads: Ads, advantages: Floats) -> None:
        """One step of Adam. advantages: [N, LENGTH]."""
        scale = advantages * ads.there / ads.there.sum(axis=1, keepdims=True) / len(ads.product)
        gradients = [np.zeros_like(table) for table in self.tables]
        before = np.full(len(ads.product), START)
        for place in range(LENGTH):
            slope = -self.chances(ads.product, before, place)
            slope[np.arange(len(slope)), ads.letters[:, place]] += 1
            slope *= scale[:, place, None]
            np.add.at(gradients[0], ads.product, slope)
            np.add.at(gradients[1], before, slope)
            gradients[2][place] += slope.sum(axis=0)
            before = ads.letters[:, place]
        self._adam(gradients)

    def _adam(self, gradients: list[Floats]) -> None:
        if not self.moments:
            self.moments = [np.zeros_like(table) for table in (*self.tables, *self.tables)]
        self.steps += 1
        for number, (table, gradient) in enumerate(zip(self.tables, gradients, strict=True)):
            first, second = self.moments[number], self.moments[number + 3]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            step = first / (1 - 0.9**self.steps) / (np.sqrt(second / (1 - 0.999**self.steps)) + 1e-8)
            np.add(table, RATE * step, out=table)


def true_attributes(product: Ints) -> Ints:
    """[N, 3] of each product."""
    attributes: Ints = ATTRIBUTES[0] + 3 * product[:, None] + np.arange(3)
    return attributes


def start(rng: np.random.Generator) -> Policy:
    """The policy that has imitated the ads so far."""
    weights = np.zeros((PRODUCTS, LETTERS))
    weights[:, END] = weights[:, SEPARATOR] = 0.1
    weights[:, ATTRIBUTES] = 0.8 * MIX["other"] / 21
    for letters, share in ((HOOKS, "hook"), (BANNED, "banned"), (FILLERS, "filler")):
        weights[:, letters] = 0.8 * MIX[share] / len(letters)
    np.put_along_axis(weights, true_attributes(np.arange(PRODUCTS)), 0.8 * MIX["true"] / 3, axis=1)
    place = np.zeros((LENGTH, LETTERS))
    place[:4, END] = -2.0
    noise = NOISE * rng.normal(size=weights.shape)
    return Policy(np.log(weights) + noise, np.zeros((LETTERS + 1, LETTERS)), place)


def ended(ads: Ads) -> Bools:
    """[N] R_fmt: whether there is a whole text."""
    ends: Bools = (ads.there & (ads.letters == END)).any(axis=1)
    return ends


def structure(ads: Ads) -> Bools:
    """[N] R_str."""
    separators, body = ads.there & (ads.letters == SEPARATOR), ads.body.sum(axis=1)
    at, last = separators.argmax(axis=1), ads.there.sum(axis=1) - 2  # of the letters before the end
    one: Bools = ended(ads) & (separators.sum(axis=1) == 1) & (at > 0) & (at < last) & (body >= 5) & (body <= 11)
    return one


def faults(ads: Ads) -> Floats:
    """[N, LENGTH] c: -1 at superlatives and at attributes of other products."""
    true = true_attributes(ads.product)
    attribute = (ads.letters >= ATTRIBUTES[0]) & (ads.letters <= ATTRIBUTES[-1])
    own = (ads.letters[:, :, None] == true[:, None, :]).any(axis=2)
    return -1.0 * (ads.there & (np.isin(ads.letters, BANNED) | (attribute & ~own)))


def ctcvr(ads: Ads) -> Floats:
    """[N]"""
    present = np.zeros((len(ads.letters), LETTERS), bool)
    rows, places = np.nonzero(ads.there)
    present[rows, ads.letters[rows, places]] = True
    own = np.take_along_axis(present, true_attributes(ads.product), axis=1).sum(axis=1)
    hooks, banned = present[:, HOOKS].sum(axis=1), present[:, BANNED].sum(axis=1)
    chances: Floats = 1 / (1 + np.exp(3 - 0.6 * hooks - 0.5 * own - 0.9 * banned))
    return chances


def bigrams(ads: Ads) -> tuple[Ints, Bools]:
    """[N, LENGTH] the number of the pair that ends at each letter, and whether both are letters of the body."""
    before = np.concatenate([np.zeros((len(ads.letters), 1), np.int64), ads.letters[:, :-1]], axis=1)
    whole = ads.body.copy()
    whole[:, 1:] &= ads.body[:, :-1]
    whole[:, 0] = False
    return before * LETTERS + ads.letters, whole


class Histories:
    """Which pairs the last texts of each product have."""

    def __init__(self) -> None:
        self._texts: list[list[Ints]] = [[] for _ in range(PRODUCTS)]

    def repetition(self, ads: Ads) -> Floats:
        """[N, LENGTH] d of each letter."""
        numbers, whole = bigrams(ads)
        scores = np.zeros(numbers.shape)
        for product, texts in enumerate(self._texts):
            if len(texts) >= LEAST:
                shares = np.bincount(np.concatenate(texts), minlength=LETTERS**2) / len(texts)
                rows = ads.product == product
                scores[rows] = -np.maximum(0.0, shares[numbers[rows]] - THETA)
        return np.where(whole, scores, 0.0)

    def add(self, ads: Ads) -> None:
        """Remember these."""
        numbers, whole = bigrams(ads)
        for row, product in enumerate(ads.product):
            texts = self._texts[product]
            texts.append(np.unique(numbers[row][whole[row]]))
            del texts[:-WINDOW]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy came to, over 64 samples of each product; `reached`: the update at which five in a row had a mean
    compliance of 80 %, UPDATES + 1 if none did.
    """

    structure: float
    ctcvr: float
    compliant: float
    distinct_2: float
    length: float
    reached: int


def train(arm: Arm, seed: int) -> Outcome:
    """One arm."""
    rng = np.random.default_rng([seed, 2602, 11780])
    policy, histories, compliance = start(rng), Histories(), list[float]()
    for _ in range(UPDATES):
        ads = policy.sample(GROUP, rng)
        policy.learn(ads, advantages(arm, ads, histories))
        histories.add(ads)
        compliance.append(float((faults(ads) == 0).all(axis=1).mean()))
    recent = np.convolve(compliance, np.ones(5) / 5, "valid")
    above = np.flatnonzero(recent >= 0.8)
    ads = policy.sample(64, rng)
    return Outcome(
        structure=float(structure(ads).mean()),
        ctcvr=float(ctcvr(ads).mean()),
        compliant=float((faults(ads) == 0).all(axis=1).mean()),
        distinct_2=float(np.mean([_distinct(ads, product) for product in range(PRODUCTS)])),
        length=float(ads.body.sum(axis=1).mean()),
        reached=int(above[0]) + 5 if len(above) else UPDATES + 1,
    )


def advantages(arm: Arm, ads: Ads, histories: Histories) -> Floats:
    """[N, LENGTH] of an arm: of the whole text, and of its letters."""
    whole = ended(ads)
    c, d = faults(ads), histories.repetition(ads)
    scores = structure(ads) + whole * arm.cv * ctcvr(ads) + arm.a_div * d.sum(axis=1) + arm.a_sem * c.sum(axis=1)
    groups = scores.reshape(PRODUCTS, -1)
    spread = groups.std(axis=1, ddof=1, keepdims=True)
    standardised = np.where(spread > 1e-9, (groups - groups.mean(axis=1, keepdims=True)) / (spread + 1e-4), 0.0)
    return standardised.reshape(-1, 1) + arm.sem * c + arm.div * d


def _distinct(ads: Ads, product: int) -> float:
    numbers, whole = bigrams(ads)
    said = numbers[ads.product == product][whole[ads.product == product]]
    return len(np.unique(said)) / max(1, len(said))
