r"""P-GenRM: a judge that writes who its user is before it scores, and asks like users for advice.

## Paper
arXiv:2602.12116.

## Objective
From h = 3 past choices of a user, a query and candidate answers y^i the policy writes a chain: persona and preferences,
criteria with weights, totals s^i. With PR in [0, 1] the degree to which the chain covers the user's true criteria (a
judge reads both) and c the answer that the user chose, r the other one::

    OR = 1[s^c > s^r]      R = alpha PR + beta OR, or -0.1 where the chain is not in form     alpha = 0.5, beta = 1
    A = (R - mean) / std over the K chains of a prompt, in a ratio loss clipped at 0.2, KL k3 to the start, weight 1e-3

The weights are ``stages.cre.weights`` (format, outcome, process). Then alpha = 0, and the share of hard negatives grows
by phase (.25, .5, .75, 1). Prototypes a_j are K-means centres of persona vectors, refined on pairs (q and y vectors)::

    o_t = tanh(W [q_t ; y_t+ - y_t-] + b)      alpha_t = softmax_t((o_t q + rho o_t a_j) / sqrt(d))
    z = a_j + lambda_q W_q q + lambda_s W_s sum_t alpha_t o_t        Delta = z (y+ - y-)
    L = -log sigmoid(Delta) + lambda_cent |a_j - mu_j|^2 + lambda_tr |a_j - p_j|^2

At test time m chains of the user's own, and n with the histories of the rows nearest to the persona within its
prototype: s^i = (mean own + mean neighbours) / 2, ranked as eq. 9 does.

## Stages
psi (generate: a teacher's chains, kept where they agree with the user), sft (half of the prompts with the stated
criteria), cre (rl), mine (collect: 8 chains an item, to know which are hard), hard (rl), library (generate), prototypes
(fit), alone, users, ood (evaluate: a chain alone; (m, n) chains; a set of other people). A run needs rollout workers, a
reference, a learner, a judge for PR, a served teacher, an embedder, and scikit-learn.

Held-out users (``data.generator.held_out``, or the file's user_split) are in no training prompt and no prototype: a
stage that would show them is refused.

## Run it
    raylign train recipe=p_genrm scale=tiny
    raylign train recipe=p_genrm scale=gpu model.path=meta-llama/Llama-3.1-8B-Instruct data.generator.path=prism.jsonl \
        judges.teacher.path=Qwen/Qwen3-32B judges.judge.path=Qwen/Qwen3-32B '~stages.ood'

Columns: `raylign.recipes.p_genrm.choices`; stage ood asks the people of ``data.generator.ood=FILE``. Ablations:
``stages.cre.weights.process=0`` or ``.outcome=0``, ``~stages.hard ~stages.mine``, ``stages.users.strategy.own=16``,
``stages.prototypes.estimator.refine.released=true`` (rho on the query, no regulariser), ``.refine.epochs=0``.

**As a reward of another recipe**: rows with a user's past choices in the column ``history``, and the trained model ::

    raylign train recipe=grpo scale=gpu model.path=Qwen/Qwen3-4B data.path=asked.jsonl '~rewards.correct' \
        +judges.persona.path=outputs/p_genrm/stages/hard/model \
        '+rewards.persona.fn={_target_: raylign.recipes.p_genrm.PersonaReward}' \
        '+rewards.persona.fn.judge.model={_target_: raylign.actors.judge.served.Served, name: persona}'

**As a labeller of pairs**: the same reward in a `Generate` with ``keep: {_target_: ...keep.BestAndWorst}``, whose rows
a `Preference` stage takes as ``data: '@NAME'``.

## Results
Paper, 8B: Chatbot Arena 72.68 alone, 74.30 with (8, 4), 75.92 with (16, 8), 75.59 with 32 own chains; PRISM 65.32,
67.54, 68.06, 67.65. Without curriculum 71.07, and without PR 70.22, without OR 69.05, SFT alone 66.76.
Measured (make experiment RECIPE=p_genrm): with simulated users and the recipe's own clusters, routing and means, 60.6 %
with one chain, 63.9 with 8, 64.3 with 32, 65.7 with (16, 8), mean of 24 seeds; with neighbours drawn at random (16, 8)
loses 1.5 points to 32 own chains. The refinement gains 5 points on held-out pairs (4.6, 9.4, 1.2 by seed).
With real actors at scale=tiny (seeds 4 to 6 of users and RL, 40 updates from one imitator; all 22 claims hold), on
held-out users: accuracy .658 -> .744 with both rewards, .743 with the outcome alone, .624 with coverage alone; criteria
covered .60 -> .64, .62, .66. (8, 4) chains judge .772 rightly where one of the same model does .729; 12 own do better
still (.799, of fewer items): here like users add nothing that more of one's own chains would not. Of users of unseen
kinds .69. **The curriculum has a price**: on the items that the model before got wrong stage 3 is .09 above as many
further steps of stage 2, on all of them .02 below (.729, .751). It asks of 384 mined items, stage 2 of all. **The
better the imitator, the less is left to learn**: here it has 600 steps of imitation for the preset's 1,000, after which
(.776) both rewards came to .827, coverage alone to .810 and (8, 4) chains to .838, differences within noise.

## Cost
Paper: 8 GPUs for 8B. (8, 4) is 12 chains a judgement. scale=tiny: some minutes on 2 cores.

## Deviations
- [inferred] K = 8, clip 0.2, KL 1e-3, lr 1e-6, steps, the filter of PSI (in form, weights 100 +- 1, chosen above
  rejected), the half of SFT, shares and the rule of hard negatives (mean outcome <= 0.5 over mined chains, or the
  lowest third of rating gaps), no PR and no OR on a format error, the judge's prompt; all prompts in our own words.
- As a reward of other recipes the model sees h = 3 past choices (``shown``), as in training.
- A neighbour whose history leaves no room for a chain is left out; the digest knows no limit of the context.
- PR is the judge's number (`coverage`: decimals, percent, N of M; the last line or a label decides) where the digest
  clamps a reply's first number, which may be a count. A judge that cannot be reached, or gives no number in [0, 1] at
  all tries, makes the sample Missing; the digest's 0 would punish the chain.
- What is thought before a chain is no part of it: not read, not judged, not imitated (psi's teacher thinks of the
  choice that it was shown).
- An item's history is drawn once for good; neighbours are never rows of the same user (the code lets them in).
- p_j is the prototype as an epoch's visit to its cluster finds it; the released code takes a moving average and adds
  neither regulariser (``refine.released``).
- Of more than two responses OR asks for the best one at the top, and a rank correlation is logged.
- In evaluations chains that are not in form, and ties, are wrong; ``first`` counts ties as response 1 (the code).
- JSON with other keys than the two is not in form; ``form.alias=true`` takes ``scores`` as well.
- scale=tiny has letters for criteria and a chain of a dozen letters (`toy.LetterChains`).
- The simulated users' choices are drawn anew for every pair, as the paper does; with one draw a user (16, 8) gained
  1.15 and 1.06 points over 32 own chains (4 and 12 seeds), where the digest asks for 1.2.
- Batch and rate of RL at scale=tiny are those at which the arms (0, 1) and (1, 0) do best, from one seed's imitator;
  with 16 prompts a step and rates of 2e-4 and 5e-4 no arm had learned anything.
"""

from typing import Any

__all__ = [
    "Agrees",
    "Asked",
    "ChainFigures",
    "Format",
    "HardNegatives",
    "InForm",
    "JsonChains",
    "Judgements",
    "Outcome",
    "PersonaReward",
    "PersonalChoices",
    "Process",
    "Prototypes",
    "UserScaling",
]
_PLACES = {
    "Agrees": "keep",
    "Asked": "views",
    "ChainFigures": "measures",
    "Format": "rewards",
    "HardNegatives": "curriculum",
    "InForm": "keep",
    "JsonChains": "form",
    "Judgements": "measures",
    "Outcome": "rewards",
    "PersonaReward": "persona",
    "PersonalChoices": "choices",
    "Process": "rewards",
    "Prototypes": "prototypes",
    "UserScaling": "scaling",
}


def __getattr__(name: str) -> Any:
    """The part, imported when it is asked for: stages bring Ray with them, which no rollout worker's strategy needs."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
