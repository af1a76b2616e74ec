"""Environments for multi-turn rollouts: how they are hosted, taken up again after a crash, and the environments
themselves.
"""
