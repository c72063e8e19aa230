"""What counting alone reaches on real chr20 (GRCh37): bits a base of every base of chr20:3-4 Mb.

    python benchmarks/counts.py chr20.GRCh37.fa.gz

Plain: 0 to 5 bases on each side, one base more on both sides at a time, p = (n + 8 p_before) / (N + 8) from uniform,
one strand. Shipped: what reports show, both strands and w = 16. Fitted on 2.5 Mb, 20 Mb, and all but chr20:3-4 Mb.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from kleiber.corpus.counts import WEIGHT, WordCounts
from kleiber.genome.reference import Reference
from kleiber.tokens.bits import bits_per_base
from kleiber.tokens.tokenizer import CODES

SCORED = slice(3_000_000, 4_000_000)
FITTED = {
    "chr20:4-6.5 Mb": [slice(4_000_000, 6_500_000)],
    "chr20:4-24 Mb": [slice(4_000_000, 24_000_000)],
    "all but 3-4 Mb": [slice(0, 3_000_000), slice(4_000_000, None)],
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("fasta", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        reference = Reference.build(options.fasta, Path(scratch) / "reference")
        codes = CODES[reference.bases(reference.contigs[0].name)]
    scored = codes[SCORED]
    for name, stretches in FITTED.items():
        for kind, longest, both_strands, weight in (("plain", 11, False, 8.0), ("shipped", 13, True, WEIGHT)):
            counts = WordCounts(longest, both_strands)
            start = time.process_time()
            for stretch in stretches:
                counts.add(codes[stretch])
            fitted = time.process_time()
            nats, bases = counts.nats(scored, np.zeros(len(scored), np.int64), weight)
            done = time.process_time()
            bits = {
                model: bits_per_base(float(n[0]), int(bases[0])) for model, n in zip(counts.models, nats, strict=True)
            }
            if kind == "plain":
                bits = {model: value for model, value in bits.items() if model[:-1] == "two-sided-"}
            each = 1e9 * (fitted - start) / counts.n_bases, 1e9 * (done - fitted) / len(scored)
            print(f"{name}, {kind}: {counts.n_bases:,} bases, {each[0]:.0f} ns each; {each[1]:.0f} ns a scored base")
            print("  " + "  ".join(f"{model} {value:.4f}" for model, value in bits.items()), flush=True)


if __name__ == "__main__":
    main()
