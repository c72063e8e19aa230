"""The study file that `kleiber new` writes: complete, commented, and made for the files that it names."""

from __future__ import annotations

from collections.abc import Sequence

from kleiber.errors import ConfigError
from kleiber.genome.assembly import CHROMOSOME, Contig, Region, assembled, roles, sex_chromosomes

__all__ = ["EMBEDDED_HOLDOUT", "default_holdout", "study_text"]

EMBEDDED_HOLDOUT = "20:3,500,001-4,000,000"
HOLDOUT_SHARE = 6  # of a lone contig, the last sixth is held out


def default_holdout(contigs: Sequence[Contig]) -> str:
    """Return what to hold out when nobody says: a chromosome of middle size, or the end of the only one.

    It is no sex chromosome where there are others, and never a scaffold, an alternate locus or a patch.

    Raises
    ------
    ConfigError
        When no contig of several is a chromosome.
    """
    found = roles(contigs)
    chosen = [contig for contig in contigs if contig.name in assembled(contigs)]
    if len(chosen) == 1:
        (contig,) = chosen
        return str(Region(contig.name, contig.length - contig.length // HOLDOUT_SHARE, contig.length))
    if all(found[contig.name] != CHROMOSOME for contig in chosen):
        longest = sorted(chosen, key=lambda contig: -contig.length)
        few = ", ".join(f"{contig.name} ({found[contig.name]}, {contig.length:,} bases)" for contig in longest[:3])
        raise ConfigError(
            f"None of {len(chosen):,} contigs is a chromosome by its name: {few}{' …' if len(longest) > 3 else ''}.\n"
            f"  Name what training shall never read: --holdout {longest[0].name}, for example."
        )
    sexes = sex_chromosomes(contigs)
    chosen = [contig for contig in chosen if contig.name not in sexes] or chosen
    return sorted(chosen, key=lambda contig: contig.length)[len(chosen) // 2].name


def study_text(name: str, reference: str, panel: Sequence[str], holdout: Sequence[str]) -> str:
    """Return the TOML of a first study of one's own genomes."""
    arms = ['ref-bpe     = { sampling = "reference", tokenizer = "bpe1024" }']
    if panel:
        arms.append('pan-bpe     = { sampling = "pangenome", tokenizer = "bpe1024" }')
        arms.append('variant-bpe = { sampling = "variant",   tokenizer = "bpe1024" }')
    arms.append('ref-6mer    = { sampling = "reference", tokenizer = "6mer" }')
    newline = "\n"
    return f"""# A scaling-law study; `kleiber run {name}.toml` runs it, and runs on where it was stopped.

[study]
name = {_text(name)}             # also the name of the output folder, out/{name}
seed = 17                       # decides every window, mask and bootstrap draw
title = {_text(f"Scaling laws of {name}")}
question = "Do more parameters or more data lower the loss, and does it matter which genomes are read?"

[genome]                        # or public data by name (`kleiber download` lists them): assembly = "GRCh38"
reference = {_text(reference)}
panel = [{", ".join(_text(path) for path in panel)}]     # phased VCF or BCF; [] studies the reference alone
holdout = [{", ".join(_text(region) for region in holdout)}]  # never read by training; whole contigs ("chr8") or blocks
min_af = 0.0                    # drop ALT alleles that are rarer in the panel

[arms]                          # corpus x tokenizer; tokenizers: bpe1024, 6mer, nucleotide, or a tokenizer.json
{newline.join(arms)}

[ladder]
sizes  = ["0.03M", "0.07M", "0.13M", "0.2M", "0.5M"]   # parameters without embeddings; "15M" ... "230M" are published
tokens = [0.5e6, 0.8e6, 1.2e6]  # budgets of data, each annealed: branches of one training run per size
seeds  = 1                      # 2 or more tell noise from effect
stack  = 1                      # runs of one shape trained at once at most; for small models on a GPU

[model]
architecture = "shortconv"      # reads order; "dnabert2" is the published network, which cannot tell left from right

[train]                         # Muon with AdamW, at rates that were measured: see `kleiber train --help`
length = 128                    # tokens in a row
batch = 16                      # rows in a step
eval_rows = 500                 # held-out rows, spread evenly
eval_masks = 1                  # sets of masks each is scored under; more of both are surer of small differences
"""


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
