"""Composing verifiable problems into chains: a library of its own, that knows nothing of models, runs or training.

A `Chain` is one problem or several that are linked; a composer makes one of two, or says why not (`Rejected`):

    chain = spc([seed_problem("What is 10 + 3?", "13"), seed_problem("Compute $7 + 3$.", "10")], compose)

where ``compose = partial(compose_now, RuleComposer(RuleComposer.Config()))``. `LlmComposer` asks a language
model and has programs run; who answers it is the caller's business (`drive`). `SurrogateSet` says which seeds form
which chain, `Mastery` which come next by what is solved already, `CompositionCounts` what became of them.

What is asked for and cannot be raises `CompositionError`. Needs numpy and sympy.
"""
