"""A corpus of assembled genomes: every window of every haplotype of a pangenome's FASTA files, alike.

It has the address space of a panel's corpus (sample, slot, contig, start), in the coordinates of each assembly. The
split is by whole chromosomes, in every assembly: a block of one has no place in the others. Rejected: splitting by
aligned blocks, which leaves held-out bases in whatever was not aligned.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kleiber.corpus.config import CorpusConfig
from kleiber.corpus.sampling import Corpus
from kleiber.errors import ConfigError, UnknownSample
from kleiber.genome.assemblies import Assemblies
from kleiber.genome.assembly import canonical_name

__all__ = ["AssemblyCorpus", "open_assemblies"]


def open_assemblies(assemblies: Assemblies, config: CorpusConfig, seed: int) -> AssemblyCorpus:
    """Open a corpus of assemblies.

    ``holdout``, ``include``, ``exclude`` and ``contigs`` name whole chromosomes.

    Raises
    ------
    ConfigError
        When the strategy is not ``"pangenome"``, a block is named, or X is held out without Y or Y without X.
    UnknownSample
        When a sample is not among the assemblies.
    """
    if config.strategy != "pangenome":
        raise ConfigError(
            f"The strategy {config.strategy!r} cannot read assemblies: they come without records, so that nothing says "
            "which of their bases are variants.\n  Sample 'pangenome': all windows of all assemblies."
        )
    if config.groups or config.chromosome_uniform:
        raise ConfigError("Assemblies are drawn window by window: shares and chromosome_uniform are for other corpora.")
    heldout = _chromosomes(assemblies, config.holdout, "holdout")
    if len(pair := heldout & {"X", "Y"}) == 1 and {"X", "Y"} <= set(map(canonical_name, _all(assemblies))):
        raise ConfigError(
            f"{pair.pop()} is held out alone, and X and Y share their pseudo-autosomal regions in every assembly.\n"
            "  Hold out both, or another chromosome."
        )
    chosen = _chromosomes(assemblies, (*config.contigs, *config.include), "include") or _all(assemblies)
    chosen = {canonical_name(name) for name in chosen} - _chromosomes(assemblies, config.exclude, "exclude")
    chosen = chosen & heldout if config.split == "heldout" else chosen - heldout
    for sample in config.samples:
        if sample not in assemblies.samples:
            raise UnknownSample(sample, assemblies.samples, "the assemblies")
    names = tuple(
        name
        for name, entry in assemblies.placed.items()
        if canonical_name(entry.chromosome) in chosen and (not config.samples or entry.sample in config.samples)
    )
    if not names:
        raise ConfigError(f"No contig of the assemblies is left for the split {config.split!r}.")
    return AssemblyCorpus(assemblies, config, names, seed)


def _all(assemblies: Assemblies) -> set[str]:
    return {entry.chromosome for entry in assemblies.placed.values()}


def _chromosomes(assemblies: Assemblies, texts: tuple[str, ...], what: str) -> set[str]:
    """Return chromosomes by the name that all aliases share; a block is refused."""
    known = {canonical_name(name) for name in _all(assemblies)}
    for text in texts:
        if canonical_name(text) not in known and ":" in text:
            raise ConfigError(
                f"{what} {text!r} is a block, and assemblies have coordinates of their own: it has no place in them.\n"
                "  Name whole chromosomes."
            )
    return {canonical_name(text) for text in texts}


class AssemblyCorpus(Corpus):
    """An endless, deterministic list of windows of assemblies; open it with `open_assemblies`."""

    def __init__(self, assemblies: Assemblies, config: CorpusConfig, names: tuple[str, ...], seed: int):
        whole = replace(config, contigs=names, holdout=(), include=(), exclude=(), split="train", samples=())
        super().__init__(assemblies, None, whole, seed)
        self.assemblies, self.asked = assemblies, config

    def explain(self, index: int) -> dict[str, Any]:
        """Return where window `index` comes from.

        Assembly (the name of its FASTA file), sample, slot, contig, start (1-based there), chromosome.
        """
        where = super().explain(index)
        entry = self.assemblies.placed[where["contig"]]
        return where | {
            "assembly": entry.file,
            "contig": entry.contig,
            "sample": entry.sample,
            "slot": entry.slot,
            "chromosome": entry.chromosome,
        }

    def places(self, indices: NDArray[np.integer]) -> dict[str, list[Any]]:
        """Return where the windows `indices`, (n,), come from, as columns of n values.

        Contig, start (1-based there), strand, sample, slot.
        """
        columns = super().places(indices)
        entries = [self.assemblies.placed[name] for name in columns["contig"]]
        return columns | {
            "contig": [entry.contig for entry in entries],
            "sample": [entry.sample for entry in entries],
            "slot": [entry.slot for entry in entries],
        }

    def describe(self) -> dict[str, Any]:
        """Return what the corpus is, as JSON: as any corpus's, with windows by chromosome and by sample."""
        facts = super().describe()
        by_chromosome: dict[str, int] = {}
        by_sample: dict[str, int] = {}
        for name, n in facts["windows_by_contig"].items():
            entry = self.assemblies.placed[name]
            by_chromosome[entry.chromosome] = by_chromosome.get(entry.chromosome, 0) + n
            by_sample[entry.sample] = by_sample.get(entry.sample, 0) + n
        haplotypes = {(entry.sample, entry.slot) for entry in map(self.assemblies.placed.get, self._names) if entry}
        asked = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self.asked).items()}
        return {
            **facts,
            **asked,
            "n_haplotypes": len(haplotypes),
            "windows_by_chromosome": by_chromosome,
            "windows_by_sample": by_sample,
            "left_out_of_assemblies": self.assemblies.left_out,
        }
