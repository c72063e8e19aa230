"""What counts of words alone say of two alleles: the opponent of every network.

Ratios mean what the networks' do: of a chain, the likelihood of the whole stretch from either end; of two-sided counts,
that of the variant's own bases between their neighbours. Words are counted in DNA that training may read, by
`kleiber.corpus.counts`; orders are fixed here, not chosen by how well they do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kleiber.corpus.counts import WordCounts
from kleiber.corpus.sampling import Corpus
from kleiber.downstream.alleles import sides
from kleiber.downstream.variants import Variant
from kleiber.genome.reference import Reference
from kleiber.tokens.tokenizer import CODES

__all__ = ["COUNT_MODELS", "count_ratios", "count_territory"]

LONGEST = 11  # bases: tables of 30 MB
COUNT_MODELS = {"MARKOV": f"markov-{LONGEST - 1}", "TWO_SIDED": f"two-sided-{(LONGEST - 1) // 2}"}
SCORED = LONGEST - 1  # bases on either side that a changed base changes


def count_territory(corpus: Corpus) -> WordCounts:
    """Return the words of a corpus's territory, on the reference and from both strands."""
    counts = WordCounts(LONGEST)
    for region in corpus.territory:
        counts.add(CODES[corpus.reference.bases(region.contig)[region.start : region.end]])
    return counts


def count_ratios(
    counts: WordCounts, reference: Reference, variants: Sequence[Variant]
) -> dict[str, NDArray[np.float64]]:
    """Return log p(ALT) - log p(REF) in nats by each of `COUNT_MODELS`, (n,).

    Indels have theirs per base; NaN where a variant has no score.
    """
    scored = [i for i, variant in enumerate(variants) if not variant.why_not]
    pieces, groups = [np.full(1, 4, np.uint8)], [np.full(1, -1)]
    for number, i in enumerate(scored):
        variant = variants[i]
        left, right = sides(reference, variant.contig, variant.start, variant.start + len(variant.ref), 2 * SCORED)
        for which, allele in enumerate((variant.ref, variant.alt)):
            codes = CODES[np.concatenate([left, np.frombuffer(allele.encode(), np.uint8), right])]
            distance = np.arange(len(codes)) - len(left)
            distance = np.where(distance < 0, -distance, np.maximum(0, distance - len(allele) + 1))
            first = 8 * number + 4 * which  # groups: the allele's bases and those around them, on either strand
            group = np.where(distance == 0, first, np.where(distance <= SCORED, first + 1, -1))
            turned = np.where(codes < 4, 3 - codes, 4).astype(np.uint8)[::-1]
            pieces += [codes, np.full(1, 4, np.uint8), turned, np.full(1, 4, np.uint8)]
            groups += [group, np.full(1, -1), np.where(group < 0, -1, group + 2)[::-1], np.full(1, -1)]
    found = {key: np.full(len(variants), np.nan) for key in COUNT_MODELS}
    if not scored:
        return found
    nats, bases = counts.nats(np.concatenate(pieces), np.concatenate(groups))
    shape = (len(scored), 2, 2, 2)  # variant, allele, strand, own or around
    padded = np.zeros(8 * len(scored), np.int64)
    padded[: len(bases)] = bases
    n_bases = padded.reshape(shape)
    is_indel = np.array([variants[i].is_indel for i in scored])
    for key, name in COUNT_MODELS.items():
        sums = np.zeros(8 * len(scored))
        sums[: len(bases)] = nats[counts.models.index(name)]
        by = sums.reshape(shape)
        per_base = (by.sum(-1) / np.maximum(1, n_bases.sum(-1))).mean(-1)
        whole = (by[..., 0] if key == "TWO_SIDED" else by.sum(-1)).mean(-1)
        likelihood = -np.where(is_indel[:, None], per_base, whole)
        found[key][scored] = likelihood[:, 1] - likelihood[:, 0]
    return found
