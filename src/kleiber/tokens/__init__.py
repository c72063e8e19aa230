"""DNA as the ids of tokens: byte-pair encodings, k-mers, nucleotides."""
