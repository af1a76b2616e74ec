"""HyPO: preference learning whose reference margin is floored at zero, so that a wrong reference cannot end it early.

## Paper
HyPO / Hybrid-DPO, arXiv:2602.11902 (ICLR 2026); code tmllab/2026_ICLR_HyPO.

## Objective
    minimise  mean over pairs of  -log sigmoid( β (Δθ - D) )
    Δ = log π(chosen | x) - log π(rejected | x), summed over the answer, of the policy (θ) and of the reference
    D = γ + τ softplus((Δref - γ) / τ), the released recipes' form of max(Δref, γ);   β .1, γ 0, τ .1

DPO relaxes on a pair once Δθ > Δref. Where Δref < 0 (45 % of real pairs) that is too early, since only Δθ > 0 counts at
inference. The gradient weight here is the larger of DPO's and the reference-free one on every pair.

Switches: stages.preference.objective.reference_margin = dpo | hypo | hypo_smooth | none, .logprob = sum | mean |
mean_without_end, .loss = sigmoid | squared, .gamma, .tau (0 or less: a hard maximum), .beta.

## Stages
preference; with scale=tiny before it sft (on the chosen answers) and reference (SimPO, a few steps).

A run needs pairs in TRL's columns (data.path: JSONL, parquet, .gz), each with a prompt or whole conversations; the
policy's start (model.path); and a reference (frozen.reference.path; empty: the start itself; in the paper another
checkpoint, SimPO of the same architecture). Only learner and frozen model actors are started. The log-probs of the
reference are computed once and kept by content for later runs too (stages.preference.cache).

## Run it
    raylign train recipe=hypo scale=tiny
    raylign train recipe=hypo scale=node model.path=mistralai/Mistral-7B-Instruct-v0.2 \\
        frozen.reference.path=princeton-nlp/Mistral-7B-Instruct-SimPO data.path=pairs.parquet

Llama-3 takes stages.preference.optim.lr=1e-6 (the default is Mistral's 5e-7).

## Results
eval/agreement/pessimistic well above DPO's at equal steps, eval/agreement/optimistic a little below. Held-out agreement
of DPO, HyPO and the reference-free loss (make experiment RECIPE=hypo): on hh-rlhf, a unigram model, mean of 5 splits:
pessimistic .19 .37 .49, optimistic .90 .79 .67; the log-linear model, mean of 5 seeds: pessimistic .39 .64 .81,
optimistic .97 .93 .86.

## Cost
scale=tiny: under a minute on 2 cores; the experiment about 14 CPU minutes, two runs at a time. Paper: one epoch of
60,000 pairs on a 7B model, like DPO.

## Deviations
- An answer that is too long is cut to what its prompt leaves of max_tokens (TRL: to max_tokens less the longest allowed
  prompt). Equal answers and repeated pairs are dropped.
- Warm-up starts above rate 0.
- Prompts that leak a benchmark are not searched for.
- Judged evaluations (AlpacaEval 2, Arena-Hard) are not part of the recipe.
- [inferred] data, model (0.1 million parameters), SimPO reference and rates of scale=tiny.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raylign.contracts import PairGenerator
from raylign.data.pair_rows import PairText

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class LetterPairs(PairGenerator):
    """Pairs of equally long words whose true preference is known: a hidden weight for every letter.

    Letters have very different frequencies that say nothing about the preference. A language model of the words ranks
    a pair by frequency, so as a reference it prefers the rejected word of nearly half of the pairs.
    """

    @dataclass
    class Config:
        """Shape of the task; `task_seed` fixes weights and frequencies, the run's seed draws the pairs."""

        length: int = 16  # letters of a word
        spread: float = 1.5  # standard deviation of the letters' log frequency
        sharpness: float = 3.0  # standard deviation of the true margin between two words, in logits
        task_seed: int = 0

        def __post_init__(self) -> None:
            if self.length < 1 or self.spread < 0 or self.sharpness <= 0:
                raise ValueError("length must be at least 1, spread at least 0 and sharpness above 0")

    def __init__(self, config: Config) -> None:
        self.config = config

    def pairs(self, size: int, seed: int) -> Iterator[PairText]:
        """`size` pairs; the preferred word is drawn with probability sigmoid(difference of the words' weights)."""
        config = self.config
        task = np.random.default_rng([config.task_seed, 2602, 11902])
        frequency = np.exp(config.spread * task.standard_normal(len(LETTERS)))
        frequency /= frequency.sum()
        weight = task.standard_normal(len(LETTERS))
        weight -= frequency @ weight
        weight *= config.sharpness / np.sqrt(2 * config.length * (frequency @ weight**2))
        rng = np.random.default_rng([seed, 2602, 11902])
        for number in range(size):
            prompt = "".join(rng.choice(list(LETTERS), 6))
            words = rng.choice(len(LETTERS), (2, config.length), p=frequency)
            margin = weight[words[0]].sum() - weight[words[1]].sum()
            best, worst = words if rng.random() < 1 / (1 + np.exp(-margin)) else words[::-1]
            yield PairText(
                messages=({"role": "user", "content": prompt},),
                chosen="".join(LETTERS[i] for i in best),
                rejected="".join(LETTERS[i] for i in worst),
                place=f"letters:{number}",
            )
