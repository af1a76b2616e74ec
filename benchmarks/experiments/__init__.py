"""One script per paper: the experiment of its digest, every number beside its threshold."""
