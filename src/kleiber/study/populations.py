"""Which samples of its panel a study reads: those named, of some populations, and no relatives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kleiber.corpus.regions import is_bed
from kleiber.errors import ConfigError, UnknownSample
from kleiber.genome.samples import Sample, founders, of_populations, read_samples
from kleiber.genome.sources import catalogue, source_files
from kleiber.genome.vcf import VcfFile
from kleiber.study.config import Study

__all__ = ["arm_samples", "panel_samples", "side_files", "table_file"]


def table_file(study: Study) -> Path | None:
    """Return the table of samples that a study names, present; None where it names none.

    Raises
    ------
    ConfigError
        When it is missing.
    """
    name = study.genome.sample_table
    if not name:
        return None
    if name in catalogue():
        here, absent = source_files(catalogue()[name])
        if absent or len(here) != 1:
            raise ConfigError(
                f"{name}, which [genome] sample_table of the study names, is not here.\n"
                f"  Fetch it: kleiber download {name}"
            )
        return here[0]
    if not Path(name).is_file():
        raise ConfigError(f"There is no file {name}, which [genome] sample_table of the study names.")
    return Path(name)


def side_files(study: Study) -> list[Path]:
    """Return the BED files and tables that a study names beside its genome, all of them present.

    Raises
    ------
    ConfigError
        When one is missing.
    """
    genome = study.genome
    beds = [(key, text) for key in ("include", "exclude") for text in getattr(genome, key) if is_bed(text)]
    tables = [("chromosomes", genome.chromosomes)] if Path(genome.chromosomes).is_absolute() else []
    for key, text in beds + tables:
        if not Path(text).is_file():
            raise ConfigError(f"There is no file {text}, which [genome] {key} of the study names.")
    table = table_file(study)
    return [*(Path(text) for _, text in beds + tables), *([table] if table else [])]


def panel_samples(study: Study, files: Sequence[Path]) -> tuple[list[str] | None, dict[str, str] | None]:
    """Return the samples of the panel's files that a study reads, and their sexes.

    None stands for all samples, and for sexes that are not known of each.

    Raises
    ------
    ConfigError, DataError, UnknownName
        When a sample or population is not there, or nobody is left.
    """
    named, path = study.genome, table_file(study)
    table = read_samples(path) if path else {}
    present = list(dict.fromkeys(sample for file in files for sample in VcfFile(file).samples))
    chosen = _named(present, named.samples, "[genome] samples")
    if named.populations:
        members = _members(chosen, table, named.populations)
        chosen = [sample for sample in chosen if any(sample in group for group in members)]
    if named.unrelated:
        chosen = founders(chosen, table)
    known = {sample: table[sample].sex for sample in chosen if sample in table and table[sample].sex}
    return (None if chosen == present else chosen), (known if len(known) == len(chosen) else None)


def arm_samples(study: Study, arm: str, present: Sequence[str]) -> dict[str, Any]:
    """Return which samples of the panel an arm reads, as keys of `kleiber.corpus.sampling.CorpusConfig`.

    Raises
    ------
    ConfigError, DataError, UnknownName
        As `panel_samples` does.
    """
    entry, genome = study.arms[arm], study.genome
    chosen = _named(list(present), entry.samples, f"[arms] {arm} samples")
    populations, shares = entry.populations, entry.shares
    if not populations and genome.shares:
        populations, shares = genome.populations, genome.shares
    if not populations or (path := table_file(study)) is None:
        return {"samples": tuple(chosen)} if entry.samples else {}
    members = _members(chosen, read_samples(path), populations)
    if shares:
        return {"groups": tuple(map(tuple, members)), "shares": shares}
    return {"samples": tuple(sample for group in members for sample in group)}


def _named(present: list[str], names: Sequence[str], where: str) -> list[str]:
    """Return those of the samples that are named, in the order of the panel; all where none is."""
    for name in names:
        if name not in present:
            raise UnknownSample(name, present, f"the panel, which {where} of the study names")
    return [sample for sample in present if sample in set(names)] if names else present


def _members(chosen: list[str], table: dict[str, Sample], populations: Sequence[str]) -> list[list[str]]:
    return list(of_populations(chosen, table, populations).values())
