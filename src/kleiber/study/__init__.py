"""A whole study from one file: its plan, its runs anywhere, its tables."""
