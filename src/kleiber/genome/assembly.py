"""Contigs: what they are called, and which of them are chromosomes. ``chr20``, ``20``, ``NC_000020.11`` are one contig.

Matching is by name through this table and is checked by length where both sides state one. Which contigs are assembled
chromosomes is told by what assemblies call their scaffolds, alternate loci, patches, decoys and organelles, and by
length where a name says nothing; so it holds for any species, whatever its chromosomes are called and however many
there are. Rejected: a list of human chromosomes, which silently takes most of the fly's away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kleiber.errors import ConfigError

__all__ = ["Contig", "Region", "assembled", "canonical_name", "left_out", "role_of", "roles", "sex_chromosomes"]

_AUTOSOMES = {n: [*map(str, range(1, n + 1))] for n in (19, 20, 22, 25, 29)}
_ROMAN = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI"]
# Accessions of chromosomes in the order of their numbers, whatever their version: RefSeq (NC), GenBank (CM, CP).
_ACCESSIONS = {
    ("NC_", 1): [*_AUTOSOMES[22], "X", "Y"],  # human, GRCh37 and GRCh38
    ("CM", 663): [*_AUTOSOMES[22], "X", "Y"],
    ("NC_", 60925): [*_AUTOSOMES[22], "X", "Y"],  # T2T-CHM13
    ("CP", 68255): ["X", *_AUTOSOMES[22][::-1]],
    ("CP", 86569): ["Y"],
    ("NC_", 67): [*_AUTOSOMES[19], "X", "Y"],  # mouse
    ("CM", 994): [*_AUTOSOMES[19], "X", "Y"],
    ("NC_", 51336): [*_AUTOSOMES[20], "X", "Y"],  # rat, mRatBN7.2
    ("NC_", 37328): [*_AUTOSOMES[29], "X"],  # cattle, ARS-UCD
    ("NC_", 7112): _AUTOSOMES[25],  # zebrafish
    ("NC_", 3279): [*_ROMAN[:5], "X"],  # worm
    ("NC_", 1133): _ROMAN,  # yeast
    ("NC_", 4353): ["4", "X"],  # fly, Release 6
    ("NC_", 24512): ["Y"],
    ("NT_", 33777): ["3R", "2R", "2L"],
    ("NT_", 37436): ["3L"],
    **{("NC_", number): ["M"] for number in (12920, 5089, 1665, 6853, 2333, 24511, 1328, 1224)},
}
_ACCESSION = re.compile(r"(N[CT]_|C[MP])0*(\d{1,6})\.\d{1,2}")
_CHROMOSOME = re.compile(r"0*(\d{1,3}[A-H]?|[XYZW]\d{0,2}|[2-5][LR]|[IVX]{1,5})", re.ASCII | re.IGNORECASE)
_PREFIX = re.compile(r"chr(?:om(?:osome)?)?[_.-]?", re.IGNORECASE)
_MITOCHONDRION = re.compile(r"(chr)?(m|mt|mito|mtdna)|(dmel_)?mito\w*_genome|mitochondri(on|a)", re.IGNORECASE)
_PLACED = re.compile(r"chr\w+?_([A-Z]{2}_?\d+|[A-Z]{4,6}\d+)v(\d{1,2})(?:_\w+)?|chr\w+?_(gl\d{6})(?:_random)?")

CHROMOSOME, SCAFFOLD = "chromosome", "scaffold"
_ROLES = [  # the first that fits, anywhere in the name
    ("decoy", r"decoy|^hs3[78]d\d"),
    ("patch", r"_fix$|_patch$|^h[gs]\d+_"),
    ("alternate locus", r"_alt$|_hap\d+$|^(chr_)?hs?chr|^chr_.*_ctg|_alt_?ctg"),
    ("HLA allele", r"^hla[-_]"),
    ("virus or spike-in", r"^chrebv$|^nc_007605|^phix|^ercc-|^lambda$|^puc19"),
    ("organelle", r"^chrc$|^(chr)?(pt|pltd|chloroplast|plastid|apicoplast|kinetoplast)$|^(chr)?(2-?mic|plasmid)"),
    (
        SCAFFOLD,
        r"random|^(chr)?un(_|$|\d)|unloc|unplaced|unmapped|scaff|contig|^(chr)?uextra|^chru$|het$|ctg|"
        r"(^|_)tig\d|tg\d{6}[lc]|utg|^chr\w*_\w+v\d+$|rdna|"
        r"^(ch|df|ds|eq|gg|gj|gl|jh|kb|kd|ke|ki|kk|kl|kn|kq|kv|kz|ml|mu)\d{6}|^[a-z]{4,6}\d{2}s?\d{6,}(\.\d+)?$",
    ),
    (CHROMOSOME, r"^chr[^_]+$|^nc_\d{6}|^lg_?\d+$|^super_\d+$|^linkage_?group_?\d+$"),
]
_ROLES_COMPILED = [(role, re.compile(pattern, re.ASCII | re.IGNORECASE)) for role, pattern in _ROLES]
_PLACES = re.compile(r"N[TW]_\d{6}")
LONG = 50  # a contig whose name says nothing is a chromosome from a 50th of the longest on
LONG_PLACE, LARGE = 4, 1_000_000  # RefSeq's NT_ and NW_ from a 4th on, in bases: arms of some flies' chromosomes
ORGANELLE = 25_000  # bases: an NC_ that is no longer, in a genome of chromosomes 100 times as long


@dataclass(frozen=True)
class Contig:
    """A contig of a reference: its name there and its length in bases."""

    name: str
    length: int


def canonical_name(name: str) -> str:
    """Return the name that all aliases of a contig share; other names are their own.

    ``chr25`` is ``25``, ``chrIV`` is ``IV``; accessions are those of human, mouse, rat, cattle, zebrafish, fly, worm
    and yeast (RefSeq, GenBank); ``chr1_KI270706v1_random`` is ``KI270706.1``.
    """
    if match := _ACCESSION.fullmatch(name):
        for (prefix, first), names in _ACCESSIONS.items():
            if prefix == match[1] and 0 <= (at := int(match[2]) - first) < len(names):
                return names[at]
        return name
    if _MITOCHONDRION.fullmatch(name):
        return "M"
    bare = _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name
    if match := _CHROMOSOME.fullmatch(bare):
        return match[1].upper()
    if match := _PLACED.fullmatch(name):
        return f"{match[3].upper()}.1" if match[3] else f"{match[1]}.{match[2]}"
    return name


def role_of(name: str) -> str:
    """Return what a contig is by its name alone, or nothing where the name does not say.

    ``"chromosome"``, ``"scaffold"``, ``"alternate locus"``, ``"patch"``, ``"decoy"``, ``"organelle"``,
    ``"HLA allele"`` or ``"virus or spike-in"``.
    """
    bare = name.rsplit("#", 1)[-1]  # HG002#1#chr8
    canonical = canonical_name(bare)
    if canonical == "M":
        return "organelle"
    if _CHROMOSOME.fullmatch(canonical):
        return CHROMOSOME
    return next((role for role, pattern in _ROLES_COMPILED if pattern.search(bare)), "")


def roles(contigs: Iterable[Contig]) -> dict[str, str]:
    """Return what each contig of an assembly is, by name, and by length where the name does not say.

    Lengths are compared with the longest contig that is a chromosome by name, or that has no telling name.
    """
    contigs = list(contigs)
    found = {contig.name: role_of(contig.name) for contig in contigs}
    longest = max((c.length for c in contigs if found[c.name] in (CHROMOSOME, "")), default=0)
    for contig in contigs:
        if _PLACES.match(contig.name) and canonical_name(contig.name) == contig.name:
            is_long = contig.length >= LARGE and longest <= LONG_PLACE * contig.length
            found[contig.name] = CHROMOSOME if is_long else SCAFFOLD
        elif not found[contig.name]:
            found[contig.name] = CHROMOSOME if longest <= LONG * contig.length else SCAFFOLD
        elif contig.name.startswith("NC_") and contig.length <= ORGANELLE and longest > 100 * contig.length:
            found[contig.name] = "organelle" if found[contig.name] == CHROMOSOME else found[contig.name]
    return found


def assembled(contigs: Iterable[Contig]) -> set[str]:
    """Return the names of the contigs that are assembled chromosomes; of all contigs where none is.

    Scaffolds, alternate loci, patches and decoys are left out: they repeat the chromosomes, held-out ones as well. So
    are organelles, HLA alleles and viruses. Every genome without chromosomes (a draft of scaffolds) is whole.
    """
    found = roles(contigs)
    return {name for name, role in found.items() if role == CHROMOSOME} or set(found)


def sex_chromosomes(contigs: Iterable[Contig]) -> set[str]:
    """Return the names of X, Y, Z and W; X of a genome that has IX is its tenth chromosome."""
    names = {contig.name: canonical_name(contig.name) for contig in contigs}
    letters = r"[YZW]\d{0,2}" if "IX" in names.values() else r"[XYZW]\d{0,2}"
    return {name for name, canonical in names.items() if re.fullmatch(letters, canonical)}


def left_out(contigs: Sequence[Contig], chosen: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return how many contigs of each role are not among the chosen, and how many bases they have."""
    chosen, found = set(chosen), roles(contigs)
    counts: dict[str, tuple[int, int]] = {}
    for contig in contigs:
        if contig.name not in chosen:
            n, bases = counts.get(found[contig.name], (0, 0))
            counts[found[contig.name]] = n + 1, bases + contig.length
    return counts


@dataclass(frozen=True)
class Region:
    """A stretch of a contig, 0-based and half-open; printed 1-based and inclusive, as samtools does."""

    contig: str
    start: int
    end: int

    @classmethod
    def parse(cls, text: str, length: int | None = None) -> Region:
        """Read ``"20:1,000-2,000"`` (1-based, inclusive), or ``"20"`` for a whole contig of known `length`.

        What stands before the last colon is the contig's name, which may hold colons itself.

        Raises
        ------
        ConfigError
            When the text is no region.
        """
        match = re.fullmatch(r"(.+):([0-9,]{1,19})-([0-9,]{1,19})", text)
        if match:
            start, end = (int(number.replace(",", "") or 0) for number in match.group(2, 3))
            if 1 <= start <= end:
                return cls(match[1], start - 1, end)
        elif length is not None:
            return cls(text, 0, length)
        raise ConfigError(
            f"{text!r} is no region.\n  Write contig:start-end, 1-based and inclusive: 20:1,000,001-2,000,000."
        )

    def __str__(self) -> str:
        return f"{self.contig}:{self.start + 1:,}-{self.end:,}"
