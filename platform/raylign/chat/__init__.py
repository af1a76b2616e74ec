"""Conversations as a model's chat template renders them: prompts, answers, ends of turn, and text from outside."""
