"""The stages before training: genome, tokenizers, corpora, held-out rows. Each is idempotent and lands atomically.

Every function takes the study and its output folder and returns the finished thing, making it only when it is not
there yet; a worker process calls the same functions and finds everything made.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from kleiber.corpus.assembled import open_assemblies
from kleiber.corpus.regions import regions_or_bed
from kleiber.corpus.sampling import Corpus, CorpusConfig, open_corpus
from kleiber.corpus.strategies import STRATEGIES
from kleiber.errors import ConfigError, StateError
from kleiber.genome.assemblies import Assemblies, assembly_files, chromosomes_of
from kleiber.genome.panel import Panel
from kleiber.genome.reference import Reference
from kleiber.genome.sources import DATA, catalogue, data_folders, source_files
from kleiber.storage import fingerprint, is_unchanged, read_manifest, staged_folder, write_atomic, write_manifest
from kleiber.study.checks import check_tasks
from kleiber.study.config import EMBEDDED, Genome, Study
from kleiber.study.plan import Plan, plan
from kleiber.study.populations import arm_samples, panel_samples, side_files
from kleiber.study.territory import outline, tell_territory
from kleiber.tokens.kinds import load
from kleiber.tokens.tokenizer import Tokenizer
from kleiber.tokens.train import WINDOW, train_tokenizer
from kleiber.train.config import ORIGINAL_WINDOW

__all__ = [
    "EMBEDDED_FILES",
    "bases_per_token",
    "corpora",
    "corpus_of",
    "genome",
    "genome_files",
    "heldout_corpus",
    "planned",
    "refuse_changed_inputs",
    "territory",
    "tokenizer_label",
    "tokenizer_of",
]

_EMBEDDED_FOLDER = Path(str(files("kleiber") / "data" / "embedded"))
EMBEDDED_FILES = {
    "reference": _EMBEDDED_FOLDER / "chr20_1-4Mb.GRCh37.fa.gz",
    "panel": _EMBEDDED_FOLDER / "EUR300.chr20_1-4Mb.vcf.gz",
}
TOKENIZER_BASES = 200_000_000  # more windows than this do not change the first thousands of merges


def genome_files(study: Study) -> tuple[Path, tuple[Path, ...]]:
    """Return the FASTA and the panel files of a study, all of them present.

    Raises
    ------
    ConfigError
        When one is missing; names the key that asked for it, or the command that fetches it.
    """
    named = study.genome
    try:
        (fasta,) = _files_of(named, "assembly" if named.assembly else "reference", named.assembly or named.reference)
        return fasta, tuple(path for name in named.panel for path in _files_of(named, "panel", name))
    except ConfigError:
        if not named.fallback:
            raise
    return EMBEDDED_FILES["reference"], (EMBEDDED_FILES["panel"],) if named.panel else ()


def _files_of(named: Genome, key: str, name: str) -> list[Path]:
    """Return the files that one name in a study stands for."""
    if name == EMBEDDED:
        return [EMBEDDED_FILES[key]]
    if name in catalogue():
        here, absent = source_files(catalogue()[name])
        if absent:
            places = " or ".join(str(folder) for folder in (*data_folders(), DATA.absolute()))
            command = " ".join(name for name in (named.assembly, *named.panel) if name in catalogue())
            more = f" (and {len(absent) - 1} more are missing)" if len(absent) > 1 else ""
            raise ConfigError(
                f"{name}, which [genome] {key} of the study names, is not here: there is no {absent[0].name}{more}.\n"
                f"  They belong into {places}. Fetch them: kleiber download {command}"
            )
        return here
    if not Path(name).is_file():
        raise ConfigError(f"There is no file {name}, which [genome] {key} of the study names.")
    return [Path(name)]


def genome(study: Study, out: Path, tell: Callable[[str], None] = lambda text: None) -> tuple[Reference, Panel | None]:
    """Build the reference and the panel store, or open them; `tell` is told first what the study reads.

    Raises
    ------
    StateError
        When an input file has changed since the store was built.
    """
    folder = out / "genome"
    if read_manifest(folder) is None:
        fasta, panel_files = genome_files(study)
        assembled = assembly_files(study.genome.assemblies)
        named = (fasta, *panel_files, *side_files(study), *assembled)
        inputs = {str(path): fingerprint(path) for path in named}
        is_told = tell_territory(study, outline(fasta), tell)
        chosen, sexes = panel_samples(study, panel_files)
        if chosen:
            tell(f"the panel is read of {len(chosen):,} samples")
        reference = Reference.build(fasta, folder / "reference")
        is_told = is_told or tell_territory(study, reference, tell)
        if panel_files:
            cores = len(os.sched_getaffinity(0))
            Panel.build(
                reference,
                list(panel_files),
                folder / "panel",
                study.panel_rules(),
                samples=chosen,
                sexes=sexes,
                workers=cores,
            )
        if assembled:
            chromosomes = chromosomes_of(study.genome.chromosomes)
            Assemblies.build_all(assembled, folder / "assemblies", reference, chromosomes)
        write_manifest(folder, {"inputs": inputs})
    refuse_changed_inputs(out)
    reference = Reference.open(folder / "reference")
    return reference, Panel.open(folder / "panel", reference) if study.genome.panel else None


def territory(study: Study) -> list[str]:
    """Say what a study will read of its FASTA.

    Nothing where the file is not here, or cannot be looked at quickly. Where it is here, so has to be all else that the
    study names.

    Raises
    ------
    ConfigError, DataError
        When a region is none of the FASTA, one side of the split is empty, or a file is missing.
    MissingDependency
        When a task needs a package that is not installed.
    """
    try:
        fasta, _ = genome_files(study)
    except ConfigError:
        return []
    side_files(study)
    check_tasks(study.downstream)
    told: list[str] = []
    tell_territory(study, outline(fasta), told.append)
    return told


def refuse_changed_inputs(out: Path) -> None:
    """Raise `StateError` when a FASTA, panel or tokenizer file has changed since the study began."""
    for folder in (out / "genome", *sorted(out.glob("tokenizer/*")), *sorted(out.glob("downstream/*"))):
        for path, recorded in (read_manifest(folder) or {}).get("inputs", {}).items():
            if Path(path).exists() and not is_unchanged(path, recorded):
                raise StateError(
                    f"{path} has changed since the study began: {folder} was built from it.\n"
                    "  Put the old file back, or run the study with another --out."
                )


def tokenizer_label(spec: str) -> str:
    """Return the folder name of a tokenizer.

    The specification itself, or the name of its file without the ending.
    """
    return re.sub(r"[^\w+-]", "_", Path(spec).stem if spec.endswith(".json") else spec)


def tokenizer_of(study: Study, out: Path, spec: str) -> Tokenizer:
    """Train a tokenizer on the training territory of the reference, or load it.

    Raises
    ------
    ConfigError
        When another tokenizer of the study goes by the same name.
    StateError
        When the study has begun with another tokenizer in the same file.
    """
    folder = out / "tokenizer" / tokenizer_label(spec)
    if other := [each for each in study.tokenizers() if tokenizer_label(each) == folder.name and each != spec]:
        raise ConfigError(
            f"The tokenizers {other[0]!r} and {spec!r} of the study would both be called {folder.name!r}.\n"
            "  Rename the file of one of them."
        )
    if read_manifest(folder) is None:
        reference, _ = genome(study, out)
        territory = open_corpus(
            reference, None, _config(study, reference, "reference", window=WINDOW), study.study.seed
        )
        is_file = spec.endswith(".json")
        with staged_folder(folder) as partial:
            inputs = {spec: fingerprint(spec)} if is_file else {}
            tokenizer = load(spec) if is_file else train_tokenizer(spec, _tiles(territory))
            tokenizer.save(partial / "tokenizer.json")
            write_manifest(
                partial,
                {
                    "spec": spec,
                    "vocab_size": tokenizer.vocab_size,
                    "bases_per_token": _bases_per_token(tokenizer, territory),
                    "fingerprint": tokenizer.fingerprint,
                    "inputs": inputs,
                },
            )
    refuse_changed_inputs(out)
    return load(str(folder / "tokenizer.json"))


def bases_per_token(out: Path, spec: str) -> float:
    """Return the mean number of bases in a token, as measured on the training territory."""
    manifest = read_manifest(out / "tokenizer" / tokenizer_label(spec))
    assert manifest is not None
    return float(manifest["bases_per_token"])


def planned(study: Study, out: Path) -> Plan:
    """Plan a study, with what its output knows of the data."""
    known = {}
    for spec in study.tokenizers():
        if read_manifest(out / "tokenizer" / tokenizer_label(spec)) is not None:
            known[spec] = bases_per_token(out, spec)
    described = json.loads((out / "corpora.json").read_bytes()) if (out / "corpora.json").exists() else {}
    n_unique = min((entry["n_unique_bases"] for entry in described.values()), default=None)
    return plan(study, n_unique, known)


def corpus_of(
    study: Study, out: Path, arm: str, unique: float = 1.0, full_rows: bool = False, seed: int | None = None
) -> Corpus:
    """Open what one arm reads: windows of the training territory, by its strategy.

    Parameters
    ----------
    full_rows
        Let windows reach as far as a full row may, where the original recipe cuts and pads them, too.
    seed
        Of the run that reads it: replicates draw other windows of one territory. The study's when None.
    """
    reference, panel = genome(study, out)
    entry = study.arms[arm]
    window = reach = ORIGINAL_WINDOW
    if full_rows or not study.train.original:
        window, reach = _row_bases(study, out, entry.tokenizer)
    assemblies, sampled = None, STRATEGIES[entry.sampling].reads_haplotypes
    if sampled and study.genome.assemblies:
        assemblies = Assemblies.open(out / "genome" / "assemblies")
    config = _config(
        study,
        reference,
        entry.sampling,
        window=window,
        reach=reach,
        unique=unique,
        reverse_complement=entry.reverse_complement,
        **(arm_samples(study, arm, owner.samples) if (owner := assemblies or panel) and sampled else {}),
    )
    if assemblies:
        corpus: Corpus = open_assemblies(assemblies, config, study.study.seed)
    else:
        corpus = open_corpus(reference, panel if sampled else None, config, study.study.seed)
    return corpus if seed is None else corpus.drawn_by(seed)


def heldout_corpus(study: Study, out: Path, spec: str) -> Corpus:
    """Open the held-out DNA of the reference, which every arm of one tokenizer is scored on."""
    reference, _ = genome(study, out)
    window, reach = _row_bases(study, out, spec)
    config = _config(study, reference, "reference", window=window, reach=reach, split="heldout")
    return open_corpus(reference, None, config, study.study.seed)


def corpora(study: Study, out: Path) -> dict[str, dict[str, Any]]:
    """Describe the corpus of every arm in ``corpora.json``."""
    path = out / "corpora.json"
    if not path.exists():
        described = {arm: corpus_of(study, out, arm).describe() for arm in study.arms}
        write_atomic(path, json.dumps(described, indent=1) + "\n")
    return json.loads(path.read_bytes())


def _config(study: Study, reference: Reference, strategy: str, **options: Any) -> CorpusConfig:
    named = study.genome
    beds: dict[str, Any] = {
        key: regions_or_bed(getattr(named, key), reference, lambda text: None) for key in ("include", "exclude")
    }
    return CorpusConfig(strategy=strategy, holdout=named.holdout, soft_masked=named.soft_masked, **beds, **options)


def _row_bases(study: Study, out: Path, spec: str) -> tuple[int, int]:
    """Return the bases that a training row reads: on average, and at most (every token the longest one)."""
    n_tokens = study.train.length - 2  # without [CLS] and [SEP]
    tokenizer = tokenizer_of(study, out, spec)
    return round(n_tokens * bases_per_token(out, spec)), n_tokens * tokenizer.max_token_length


def _tiles(territory: Corpus) -> np.ndarray:
    """Return windows that tile the territory, each base once; spread evenly where it is larger than needed."""
    stride = WINDOW * max(1, -(-len(territory.tiles(WINDOW)) * WINDOW // TOKENIZER_BASES))
    return territory.tile_rows(territory.tiles(stride), WINDOW)


def _bases_per_token(tokenizer: Tokenizer, territory: Corpus) -> float:
    """Measure the mean number of bases in a token on up to 3,000 windows of the training territory."""
    windows = _tiles(territory)[:3000]
    ids, _ = tokenizer.encode_batch(windows)
    return windows.size / len(ids)
