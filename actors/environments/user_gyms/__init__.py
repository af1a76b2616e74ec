"""Gyms in which an agent works for a user: it probes a world, and asks or bothers the user as little as it can.

The games of UserRL (SalesforceAIResearch/UserRL, arXiv:2509.19736) that need no other service: `function.FunctionGym`,
`telepathy.TelepathyGym`, `turtle.TurtleGym`, and `mixture.GymMixture` of several. A recipe takes one by
``environment.fn`` and its instances by `raylign.actors.environments.rows.EnvironmentRows`.
"""
