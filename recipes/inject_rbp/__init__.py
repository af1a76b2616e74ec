r"""InjectRBP: steer a frozen reasoner by patterns of reasoning behaviours from its own past traces.

## Paper
arXiv:2602.12013.

## Objective
A trace is cut into paragraphs, and each is one of six behaviours: Objective, Progression, Summary, Exploration,
Verification, Conclusion. A chain b_1 .. b_L of them has the patterns G(3), and over a set D of chains::

    freq_D(g) = sum_k sum_t 1[b_t b_{t+1} b_{t+2} = g]          p_D(g) = freq_D(g) / sum_g' freq_D(g')

InjectCorrect injects the most frequent patterns of D+, the right answers of the same family of questions. InjectRLOpt
injects what a policy over behaviours prefers, whose values are learned offline from all answers::

    s_t = (b_{t-2}, b_{t-1}), a_t = b_t; the end pays R = 1 for a right answer, else 0
    Q(s, a) = mean over visits of gamma^(L - 1 - t) R           or Q-iteration over the logged steps (fqi)
    rho(s, a) = N(s, a) / (N(s, a) + kappa)                     reliability: how often the pair was seen
    pi(a | s) = rho exp(rho (Q(s, a) - V(s)) / tau) / Z(s)      over pairs that were seen; states hardly seen back off

No weight of the language model changes: the only thing that is learned is a table of 49 states.

## Stages
sealed (fingerprint of the model), history (8 samples of every training question, right and wrong), fit (the pattern
table), none, correct, rlopt, naive, incorrect, random (evaluations of the same questions with the same seeds), cross
(another family's patterns, where questions have families), unchanged (the same fingerprint). A run needs rollout
workers and a verifier; no learner, reference or judge.

## Run it
    raylign train recipe=inject_rbp scale=tiny
    raylign train recipe=inject_rbp scale=gpu model.path=Qwen/Qwen3-8B data.path=math.jsonl
    raylign train recipe=inject_rbp scale=gpu model.path=Qwen/Qwen3-8B data.path=math.jsonl \
        '~stages.naive' '~stages.incorrect' '~stages.random'

The second leaves out the controls. ``data.domain_key=COLUMN`` names the families of questions.

Choices: ``stages.fit.estimator.values=fqi``, ``gamma``, ``outcome=centred`` (how hard a question is plays no part),
``tau`` and ``kappa``; ``stages.rlopt.view.form=chain`` gives one chain in order in place of patterns with shares. With
``stages.rlopt.view.shown=false`` beside it, ``stages.rlopt.strategy={_target_: raylign.recipes.inject_rbp.Inline}``
begins each paragraph with words of the planned behaviour. Online: another history with a view of
``history_questions: true``, and a Fit with ``estimator.after=@fit``. `Inject` is a view for any recipe's evaluation:
``stages.after.view={_target_: raylign.recipes.inject_rbp.Inject, store: FOLDER, arm: rlopt}``.

## Results
The paper: up to +5.34 points by InjectCorrect, up to +8.67 by InjectRLOpt. Measured at scale=tiny
(`benchmarks/experiments/inject_rbp.py`, all 17 claims hold; means of 3 seeds of 500 questions): none .319, correct
.577, rlopt .927 (by Q-iteration .842: on one seed .528), naive .825, cross .417, incorrect .181, random .180. What
rlopt injects is followed (L1 .00 on every seed), in 21 tokens an answer instead of 51.
A simulated reasoner after 500 chains is right at .286 without injection, .260 with wrong answers injected, .372 with
right ones, .423 by the naive softmax, .442 by the reliability-aware one, and .309 by Q-iteration, whose maximum puts
conclusions off. On 660 questions of GSM8K right and wrong solutions have other patterns (.031 bits, p = .001), but not
those of the same question (p = .9): there patterns tell which questions are hard. Values know two behaviours back:
where what decides lies further off (how many summands were added), a simulated InjectRLOpt fell below no injection on
two of three seeds.

## Cost
The table: seconds. scale=tiny: about 5 CPU minutes, most of them for the model to imitate; the experiment about 15.

## Deviations
- Lexicon, wording of the injection, reward, update and policy are not published: what goes beyond freq_D is secondary
  or [inferred], and every choice is a setting. [inferred] are also K = 5, kappa = 5, tau = .05, M = 32, 8 samples of a
  question, temperature .6, and all markers but "Okay," (O), "Now" and "First," (P).
- Of several markers the longest names a paragraph; ``behaviours.prefer=priority``: the first of C, V, E, S, O, P. The
  last paragraph is a conclusion by its box alone, never by the right answer, which would read right and wrong traces
  with different eyes.
- An episode of the MDP ends at the first conclusion; statistics of patterns count whole chains.
- The best of M chains has the highest mean of Q weighted by rho. Random patterns conclude at their end only.
- A question that is in the history is refused in whatever form it comes.
- What is mined lies in the run folder (``history.jsonl``, ``tables.json``), not in an actor. Parsing is by rule; the
  digest's optional judge is left out.
- `Inline` leaves its markers out of what a verifier reads: they are not the model's words.
- [inferred] scale=tiny: chains in order, since half of what its model imitates begins with one; a .15 million
  parameter model (the digest: 1 to 3).
"""

from typing import Any

__all__ = ["BehaviourParser", "Compliance", "Inject", "Inline", "PatternTable", "Pretrain", "Seal"]
_PLACES = {
    "BehaviourParser": "behaviours",
    "Compliance": "measures",
    "Inject": "injection",
    "Inline": "inline",
    "PatternTable": "table",
    "Pretrain": "pretrain",
    "Seal": "seal",
}


def __getattr__(name: str) -> Any:
    """The part, imported when it is asked for: stages bring Ray with them, which no rollout worker's strategy needs."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
