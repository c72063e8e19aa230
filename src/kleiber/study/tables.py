"""``[genome]`` and ``[arms]`` of a study: what its checks and its paths speak of, before the whole tree is composed.

Beside `kleiber.study.config`, which composes them, so that what it calls need not import it back.
"""

from __future__ import annotations

from dataclasses import dataclass

from kleiber.genome.rules import RecordRules

__all__ = ["Arm", "Genome"]


@dataclass(frozen=True, kw_only=True)
class Genome(RecordRules):
    """``[genome]``: the reference, the phased panel, and what training never reads.

    Attributes
    ----------
    holdout
        Whole contigs (``"chr8"``) or blocks (``"20:3,500,001-4,000,000"``, 1-based inclusive).
    reference
        A FASTA file, or ``"embedded"``: chr20:1-4 Mb of GRCh37, part of the package.
    assembly
        In place of `reference`, an assembly of the catalogue (`kleiber download` lists and fetches it).
    panel
        Phased VCF or BCF files, panels of the catalogue, or ``["embedded"]``; none for a study of the reference alone.
    fallback
        ``"embedded"``: where the files of `reference` and `panel` are not there, take the embedded data, and say so.
    policy, min_af, min_ac, only_pass, unphased, ref_mismatch, sv
        What the panel keeps of its records, as `RecordRules` says; ``unphased = "random"`` goes by the study's seed.
    include, exclude
        What training and scoring read, and what they do not: contigs, regions, or BED files. Without `include`, all
        assembled chromosomes of the FASTA.
    soft_masked
        Whether they read soft-masked bases, lower-case in the FASTA.
    samples
        Read these samples of the panel only: their names, or a file that lists them.
    sample_table
        A table of samples (1000 Genomes, IGSR, PLINK, a pedigree), or one of the catalogue: populations, parents, and
        sexes for X and Y, which calls tell without it.
    populations
        Read the samples of these populations or superpopulations only.
    shares
        The share of the windows that each of `populations` gives; without it every haplotype gives as many.
    unrelated
        Leave relatives out, so that of a trio the parents stay; by the parents in `sample_table`.
    assemblies
        FASTA files of assembled genomes, or folders of them, in place of `panel`; contigs by PanSN (``HG002#1#chr8``).
    chromosomes
        A table of their contigs and chromosomes, or the one chromosome that all are of.
    """

    holdout: tuple[str, ...]
    reference: str = ""
    assembly: str = ""
    panel: tuple[str, ...] = ()
    fallback: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    soft_masked: bool = True
    samples: tuple[str, ...] = ()
    sample_table: str = ""
    populations: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    unrelated: bool = False
    assemblies: tuple[str, ...] = ()
    chromosomes: str = ""


@dataclass(frozen=True)
class Arm:
    """One line of ``[arms]``: a corpus and a tokenizer.

    Attributes
    ----------
    sampling
        ``"reference"``, ``"pangenome"`` or ``"variant"``.
    tokenizer
        ``"bpe1024"``, ``"6mer"``, ``"nucleotide"``, or the path of a ``tokenizer.json``, relative to the study's file.
    reverse_complement
        Probability that a window is read from the other strand.
    unique
        Fractions of the territory, in place of the ladder's.
    sizes, tokens
        Those of the ladder's sizes and budgets that this arm is trained at, so that one arm carries the law and others
        are set beside it at a few models; all when empty.
    samples, populations, shares
        Of those that `[genome]` has, the samples and populations that this arm reads, and their shares of its windows.
    """

    sampling: str
    tokenizer: str
    reverse_complement: float = 0.0
    unique: tuple[float, ...] = ()
    sizes: tuple[str, ...] = ()
    tokens: tuple[float, ...] = ()
    samples: tuple[str, ...] = ()
    populations: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
