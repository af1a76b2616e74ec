"""Models: the tiny model and its tokenizer."""
