"""The networks, their sizes, and their weights on disk."""
