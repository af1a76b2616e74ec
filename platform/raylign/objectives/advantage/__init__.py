"""Advantages: how the rewards of a step become one number per sampled token. One file per family of methods."""
