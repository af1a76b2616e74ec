"""One module per paper, and the stages that they share."""
