"""How many haplotypes a sample has where: one of X in males, of Y and of the mitochondrion; two elsewhere.

Inside the pseudo-autosomal regions X and Y are one and everybody has two. A table of sexes decides, or haploid calls
do; with neither X has two slots everywhere, and the build says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kleiber.errors import DataError
from kleiber.genome.assembly import canonical_name

__all__ = ["ABSENT", "ONE_SLOT", "TWO_SLOTS", "pseudo_autosomal", "read_sexes", "slots_of_samples"]

TWO_SLOTS, ONE_SLOT, ABSENT = range(3)
SAMPLE_COLUMNS = ("sample", "sampleid", "sample name")

# 0-based, half-open; by the length of the contig, which tells GRCh37 from GRCh38
_PARS = {
    ("X", 155_270_560): ((60_000, 2_699_520), (154_931_043, 155_260_560)),
    ("X", 156_040_895): ((10_000, 2_781_479), (155_701_382, 156_030_895)),
    ("Y", 59_373_566): ((10_000, 2_649_520), (59_034_049, 59_363_566)),
    ("Y", 57_227_415): ((10_000, 2_781_479), (56_887_902, 57_217_415)),
}


def pseudo_autosomal(contig: str, length: int) -> tuple[tuple[int, int], ...]:
    """Return the pseudo-autosomal regions of X or Y of GRCh37 and GRCh38.

    0-based half-open; none of other contigs.
    """
    return _PARS.get((canonical_name(contig), length), ())


def read_sexes(path: str | Path) -> dict[str, str]:
    """Read a table of sexes.

    Sample and sex in the first two columns, or in columns named ``sample`` and ``sex``.

    The columns may also be named as in the 1000 Genomes Project's tables, ``SampleID`` and ``Sample name``.
    Sexes are ``male``/``M``/``1`` and ``female``/``F``/``2``; columns are separated by tabs or spaces.

    Raises
    ------
    DataError
        When the file is missing, or a line says neither; names the line.
    """
    words = {"male": "male", "m": "male", "1": "male", "female": "female", "f": "female", "2": "female"}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.") from None
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no table of sexes: {error}.") from None
    rows = [(number, line.split("\t") if "\t" in line else line.split()) for number, line in enumerate(lines, 1)]
    rows = [(number, [field.strip() for field in fields]) for number, fields in rows if any(fields)]
    sample, sex = 0, 1
    header = [name.lower().lstrip("#") for name in rows[0][1]] if rows else []
    if named := [name for name in SAMPLE_COLUMNS if name in header and "sex" in header]:
        sample, sex = header.index(named[0]), header.index("sex")
        del rows[0]
    found = {}
    for number, fields in rows:
        if len(fields) <= max(sample, sex) or fields[sex].lower() not in words:
            raise DataError(f"{path}, line {number}: no sample and sex (male or female, M or F, 1 or 2).")
        found[fields[sample]] = words[fields[sex].lower()]
    return found


def slots_of_samples(
    contig: str, samples: Sequence[str], haploid: NDArray[np.bool_], sexes: Mapping[str, str] | None
) -> tuple[NDArray[np.uint8], str]:
    """Say how many slots each sample has on a contig outside the pseudo-autosomal regions.

    Parameters
    ----------
    haploid
        Whether any call of the sample was haploid there.
    sexes
        ``"male"`` or ``"female"`` by sample; None when unknown.

    Returns
    -------
    uint8 (samples,) of `TWO_SLOTS`, `ONE_SLOT`, `ABSENT`; and a warning, or nothing.

    Raises
    ------
    DataError
        When a sample is not in the table of sexes.
    """
    name = canonical_name(contig)
    slots = np.where(haploid, ONE_SLOT, TWO_SLOTS).astype(np.uint8)
    if name == "M":
        slots[:] = ONE_SLOT
    if name not in ("X", "Y"):
        return slots, ""
    if sexes is None:
        if name == "Y":
            slots[:] = ONE_SLOT
        elif not haploid.any():
            return (
                slots,
                f"{contig}: no call is haploid and no sexes are given, so that every sample has two haplotypes",
            )
        return slots, ""
    unknown = [sample for sample in samples if sample not in sexes]
    if unknown:
        raise DataError(
            f"The table of sexes lacks {unknown[0]!r} and {len(unknown) - 1} more of {len(samples)} samples."
        )
    is_male = np.array([sexes[sample] == "male" for sample in samples])
    other = TWO_SLOTS if name == "X" else ABSENT
    return np.where(is_male, ONE_SLOT, other).astype(np.uint8), ""
