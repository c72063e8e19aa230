"""What a model knows of variants and of labelled sequences: beside plain counts."""
