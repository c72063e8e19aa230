"""Make the embedded data of kleiber from their two public source files.

    python scripts/make_embedded_data.py CHR20_FASTA PANEL_BCF src/kleiber/data/embedded

CHR20_FASTA is chr20 of GRCh37 (Debian package vt-examples), PANEL_BCF the 300-sample 1000 Genomes phase 3 panel of
chr20:1-4 Mb (Debian package shapeit4-example). The FASTA is cut after base 4,000,000 and its first 999,999
bases are N, so that coordinates remain those of the chromosome; the panel keeps positions, alleles and genotypes,
and drops INFO. The same inputs give the same bytes; PROVENANCE.json records both sides' SHA-256.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pysam

from kleiber.storage import file_digest

CONTIG, START, END = "20", 999_999, 4_000_000  # 0-based, half-open
LINE = 60
COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")


def write_fasta(source: Path, target: Path) -> None:
    with pysam.FastaFile(str(source)) as fasta:
        sequence = "N" * START + fasta.fetch(CONTIG, START, END).upper()
    with pysam.BGZFile(str(target), "wb") as out:
        out.write(f">{CONTIG} GRCh37 chr20:1-{END:,}; 1-{START:,} masked\n".encode())
        for i in range(0, len(sequence), LINE):
            out.write(sequence[i : i + LINE].encode() + b"\n")


def write_panel(source: Path, target: Path) -> int:
    """Write the panel as bgzipped VCF with GT only; return the number of records."""
    pysam.set_verbosity(0)  # the source declares AC as Number=1, which htslib remarks upon
    n = 0
    with pysam.VariantFile(str(source)) as panel, pysam.BGZFile(str(target), "wb") as out:
        length = panel.header.contigs[CONTIG].length
        head = [
            "##fileformat=VCFv4.2",
            '##FILTER=<ID=PASS,Description="All filters passed">',
            f"##contig=<ID={CONTIG},length={length},assembly=GRCh37>",
            '##FORMAT=<ID=GT,Number=1,Type=String,Description="Phased genotypes">',
            "\t".join([*COLUMNS, *panel.header.samples]),
        ]
        out.write(("\n".join(head) + "\n").encode())
        for record in panel:
            columns = str(record).rstrip("\n").split("\t")
            columns[2] = columns[7] = "."
            columns[6] = "PASS"
            out.write(("\t".join(columns) + "\n").encode())
            n += 1
    return n


def main(fasta: Path, panel: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reference_out, panel_out = folder / "chr20_1-4Mb.GRCh37.fa.gz", folder / "EUR300.chr20_1-4Mb.vcf.gz"
    write_fasta(fasta, reference_out)
    n_records = write_panel(panel, panel_out)
    provenance = {
        "made_by": "scripts/make_embedded_data.py",
        "reference": {
            "file": reference_out.name,
            "sha256": file_digest(reference_out),
            "what": "GRCh37 chromosome 20, bases 1-4,000,000, the first 999,999 masked with N",
            "source": "Debian package vt-examples, chr20 of GRCh37 (MIT packaging; public domain sequence)",
            "source_sha256": file_digest(fasta),
        },
        "panel": {
            "file": panel_out.name,
            "sha256": file_digest(panel_out),
            "what": f"1000 Genomes Project phase 3, 300 European samples, chr20:1-4 Mb, {n_records:,} phased records",
            "source": "Debian package shapeit4-example (MIT packaging; 1000 Genomes data are public)",
            "source_sha256": file_digest(panel),
            "citation": "The 1000 Genomes Project Consortium (2015), doi:10.1038/nature15393",
        },
    }
    (folder / "PROVENANCE.json").write_text(json.dumps(provenance, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*(Path(argument) for argument in sys.argv[1:]))
