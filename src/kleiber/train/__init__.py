"""A model trained on a corpus, and scored on DNA that it never read."""
