"""Tables of samples: who is male, of which population, and whose child.

One reader for what projects publish: the 1000 Genomes Project's panel file and pedigrees, IGSR's table, PLINK's
``.fam`` and ``.psam``, Oxford's ``.sample``, and lists of two columns. Columns are found by their names where there is
a header, and by their place in the formats that have none. Rejected: a reader for each format, chosen by an option
that users then get wrong.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kleiber.errors import DataError, UnknownName
from kleiber.genome.reference import open_text

__all__ = ["Sample", "founders", "of_populations", "read_names", "read_samples"]

LARGEST = 1 << 26  # bytes of a table
COLUMNS = {
    "name": ("sample", "sampleid", "samplename", "individualid", "iid", "id2", "individual", "s", "id"),
    "sex": ("sex", "gender"),
    "population": ("population", "pop", "populationcode", "breed", "populationname"),
    "superpopulation": ("superpopulation", "superpop", "superpopulationcode", "group", "superpopulationname"),
    "father": ("father", "fatherid", "paternalid", "pat", "sire"),
    "mother": ("mother", "motherid", "maternalid", "mat", "dam"),
    "family": ("family", "familyid", "fid"),
}
"""Names of columns, lower-case, letters and digits alone; the first that a row fills counts."""
FAM = ("family", "name", "father", "mother", "sex")
MISSING = {"", "0", "-9", ".", "na", "nan", "n/a", "none", "unknown"}
SEXES = {"male": "male", "m": "male", "1": "male", "xy": "male"}
SEXES |= {"female": "female", "f": "female", "2": "female", "xx": "female"}
NO_SEX = MISSING | {"u", "3", "other", "ambiguous"}


@dataclass(frozen=True)
class Sample:
    """What a table says of one sample; empty where it says nothing.

    Attributes
    ----------
    sex
        ``"male"``, ``"female"`` or nothing.
    father, mother
        Names of samples, whether or not the table has them.
    """

    name: str
    sex: str = ""
    population: str = ""
    superpopulation: str = ""
    father: str = ""
    mother: str = ""
    family: str = ""


def read_samples(path: str | Path) -> dict[str, Sample]:
    """Read a table of samples, by their names, in the order of the file.

    Plain or compressed; separated by tabs, blanks or commas. A header names a column of samples and at least one more;
    without a header a line is that of a ``.fam`` file, or a sample with its sex or its population.

    Raises
    ------
    DataError
        When the file is missing or is no such table, a sex is none, or a sample stands there twice with two meanings;
        names the line.
    """
    rows = _rows(path)
    places = _header(rows[0][1])
    if places:
        del rows[0]
        if rows and rows[0][1][0] == "0" and set("".join(rows[0][1])) <= set("0DCBP"):
            del rows[0]  # Oxford's second line, of the types of columns
    else:
        places = _places([fields for _, fields in rows], path)
    if not rows:
        raise DataError(f"{path} has a header and no sample.")
    found: dict[str, Sample] = {}
    lines: dict[str, int] = {}
    for number, fields in rows:
        sample = _sample(fields, places, f"{path}, line {number}")
        if found.setdefault(sample.name, sample) != sample:
            raise DataError(
                f"{path}, line {number}: {sample.name!r} is another than in line {lines[sample.name]}: "
                f"{sample} and {found[sample.name]}."
            )
        lines.setdefault(sample.name, number)
    return found


def read_names(path: str | Path) -> tuple[str, ...]:
    """Read a list of samples: the first word of each line, each name once.

    Raises
    ------
    DataError
        When the file is missing, no text, or empty.
    """
    return tuple(dict.fromkeys(fields[0] for _, fields in _rows(path)))


def of_populations(samples: Iterable[str], table: Mapping[str, Sample], wanted: Sequence[str]) -> dict[str, list[str]]:
    """Return which of some samples belong to each population, or superpopulation, that is wanted.

    Raises
    ------
    UnknownName
        When the table knows no such population; names the nearest.
    DataError
        When a sample is not in the table, none is of the population, or one is of two that are wanted.
    """
    samples = list(samples)
    refuse_strangers(samples, table)
    members: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for population in dict.fromkeys(wanted):
        known = {name for s in table.values() for name in (s.population, s.superpopulation) if name}
        if population not in known:
            raise UnknownName(population, sorted(known), "the table of samples", "population")
        members[population] = [s for s in samples if population in (table[s].population, table[s].superpopulation)]
        if not members[population]:
            raise DataError(f"None of the panel's {len(samples):,} samples is of the population {population!r}.")
        for sample in members[population]:
            if owner.setdefault(sample, population) != population:
                raise DataError(f"{sample} is of the populations {owner[sample]!r} and {population!r}; name one.")
    return members


def refuse_strangers(samples: Sequence[str], table: Mapping[str, Sample]) -> None:
    """Raise `DataError` when a table of samples lacks one of some samples."""
    unknown = [sample for sample in samples if sample not in table]
    if unknown:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise DataError(
            f"The table of samples lacks {unknown[0]!r}{more} of the panel's {len(samples):,} samples.\n"
            "  Name the table that belongs to the panel, or the samples to be read."
        )


def founders(samples: Sequence[str], table: Mapping[str, Sample]) -> list[str]:
    """Return samples of which no two are relatives by the table's parents, in their order.

    Two are relatives when one is the other's ancestor, or both have an ancestor in common. Whoever has most relatives
    goes first, then who is the younger generation, then who stands later: of a trio the child goes.

    Raises
    ------
    DataError
        When a sample is not in the table, or is its own ancestor.
    """
    refuse_strangers(samples, table)
    lines = {sample: _ancestors(sample, table) for sample in samples}
    carriers: dict[str, list[str]] = {}
    for sample, line in lines.items():
        for ancestor in line:
            carriers.setdefault(ancestor, []).append(sample)
    relatives = {s: {r for a in line for r in carriers[a]} - {s} for s, line in lines.items()}
    order = {sample: i for i, sample in enumerate(samples)}
    left = {sample: set(others) for sample, others in relatives.items()}
    related = {sample for sample, others in left.items() if others}
    removed = []
    while related:
        removed.append(max(related, key=lambda s: (len(left[s]), len(lines[s]), order[s])))
        for other in left.pop(removed[-1]):
            left[other].discard(removed[-1])
        related = {sample for sample in related - {removed[-1]} if left[sample]}
    kept = set(left)
    for sample in reversed(removed):  # all of its relatives may have gone later
        if not relatives[sample] & kept:
            kept.add(sample)
    return [sample for sample in samples if sample in kept]


def _ancestors(sample: str, table: Mapping[str, Sample]) -> set[str]:
    """Return a sample and all of its ancestors that are named."""
    line, waiting = {sample}, [sample]
    while waiting:
        entry = table.get(waiting.pop())
        for parent in (entry.father, entry.mother) if entry else ():
            if parent == sample:
                raise DataError(f"The table of samples makes {sample!r} an ancestor of itself.")
            if parent and parent not in line:
                line.add(parent)
                waiting.append(parent)
    return line


def _rows(path: str | Path) -> list[tuple[int, list[str]]]:
    """Return (line, fields) of a table's lines, comments left out; at least one."""
    try:
        with open_text(Path(path)) as handle:
            text = handle.read(LARGEST + 1).decode("utf-8-sig")
    except (UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path} is no table of samples: {error}.") from None
    if len(text) > LARGEST:
        raise DataError(f"{path} is no table of samples: it is longer than {LARGEST:,} bytes.")
    lines = [(n, line.rstrip("\r")) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    lines = [(n, line) for n, line in lines if not line.startswith("##")]
    if not lines:
        raise DataError(f"{path} is empty; a table of samples has a line for each.")
    first = lines[0][1]
    separator = "\t" if "\t" in first else "," if "," in first else None
    return [(n, [field.strip().strip('"') for field in line.split(separator)]) for n, line in lines]


def _header(fields: Sequence[str]) -> dict[str, list[int]]:
    """Return the columns of each kind, where a line is a header that names samples and something of them."""
    words = [re.sub("[^a-z0-9]", "", field.lower()) for field in fields]
    places = {kind: [words.index(name) for name in names if name in words] for kind, names in COLUMNS.items()}
    places = {kind: columns for kind, columns in places.items() if columns}
    return places if "name" in places and len(places) > 1 else {}


def _places(rows: Sequence[Sequence[str]], path: str | Path) -> dict[str, list[int]]:
    """Return the columns of a table without a header."""
    values = [{row[i].lower() for row in rows if len(row) > i} for i in range(max(map(len, rows)))]
    known = SEXES.keys() | NO_SEX
    words = {"male", "female", "m", "f"}
    if len(values) >= len(FAM) and values[4] <= known and not values[1] <= words:
        return {kind: [i] for i, kind in enumerate(FAM)}
    if len(values) >= 2 and values[1] <= known:
        return {"name": [0], "sex": [1]}
    if len(values) >= 2 and not values[1] & words:
        return {"name": [0], "population": [1]} | ({"superpopulation": [2]} if len(values) == 3 else {})
    raise DataError(
        f"{path} is no table of samples.\n"
        "  It has a header that names sample and sex or population, or is a .fam file, or lists sample and sex."
    )


def _sample(fields: Sequence[str], places: Mapping[str, Sequence[int]], where: str) -> Sample:
    def first(kind: str) -> str:
        filled = (fields[i] for i in places.get(kind, ()) if i < len(fields))
        return next((text for text in filled if text.lower() not in MISSING), "")

    name = fields[places["name"][0]] if places["name"][0] < len(fields) else ""
    if not name:
        raise DataError(f"{where}: no sample is named.")
    if max(columns[0] for columns in places.values()) >= len(fields):
        raise DataError(f"{where}: {len(fields)} columns, and the table has more.")
    sex = next((fields[i].lower() for i in places.get("sex", ())), "")
    if sex not in SEXES and sex not in NO_SEX:
        raise DataError(f"{where}: {sex!r} is no sex (male or female, M or F, 1 or 2; 0 or NA for unknown).")
    values = {kind: first(kind) for kind in places if kind not in ("name", "sex")}
    return Sample(name, SEXES.get(sex, ""), **values)
