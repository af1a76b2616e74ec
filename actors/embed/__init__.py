"""Embedders: texts as vectors of length 1, from hashed n-grams, hidden states of a model, or sentence-transformers."""

from raylign.actors.embed.model import ModelEmbedder
from raylign.actors.embed.ngrams import HashedNgrams
from raylign.actors.embed.sentences import SentenceEmbedder
from raylign.actors.embed.served import ServedEmbedder

__all__ = ["HashedNgrams", "ModelEmbedder", "SentenceEmbedder", "ServedEmbedder"]
