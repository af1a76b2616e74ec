"""Rollout actors: vLLM engines behind one interface, and the strategies that drive them."""
