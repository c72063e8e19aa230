"""Eight assemblies as they are published: the default territory is their chromosomes, the hold-out one of middle size.

Names and lengths are copied from public ``chrom.sizes`` files, whose repository and path stand beside each: all
chromosomes, and of the other contigs the first, or the longest, of each kind. Nothing is written from memory.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleiber.errors import ConfigError
from kleiber.genome.assembly import Contig, assembled, canonical_name, left_out, role_of, roles, sex_chromosomes
from kleiber.study.template import default_holdout

# assembly: (repository and path, chromosomes, the other contigs, what is held out by default)
PUBLISHED = {
    "GRCh37": (
        "igvteam/igv genomes/sizes/b37.chrom.sizes",
        "1 249250621 2 243199373 3 198022430 4 191154276 5 180915260 6 171115067 7 159138663 8 146364022 9 141213431 "
        "10 135534747 11 135006516 12 133851895 13 115169878 14 107349540 15 102531392 16 90354753 17 81195210 "
        "18 78077248 19 59128983 20 63025520 21 48129895 22 51304566 X 155270560 Y 59373566",
        "MT 16569 GL000207.1 4262 GL000226.1 15008 GL000191.1 106433 GL000192.1 547496 NC_007605 171823",
        "11",
    ),
    "GRCh38 with alternate loci": (
        "higlass/clodius data/hg38.chrom.sizes; patches: pangenome/chm13-grch38-liftover data/hg38.chrom.sizes",
        "chr1 248956422 chr2 242193529 chr3 198295559 chr4 190214555 chr5 181538259 chr6 170805979 chr7 159345973 "
        "chr8 145138636 chr9 138394717 chr10 133797422 chr11 135086622 chr12 133275309 chr13 114364328 "
        "chr14 107043718 chr15 101991189 chr16 90338345 chr17 83257441 chr18 80373285 chr19 58617616 chr20 64444167 "
        "chr21 46709983 chr22 50818468 chrX 156040895 chrY 57227415",
        "chrM 16569 chr15_KI270905v1_alt 5161414 chr6_GL000256v2_alt 4929269 chr16_KI270728v1_random 1872759 "
        "chrUn_KI270442v1 392061 chr14_GL000225v1_random 211173 chrY_KI270740v1_random 37240 "
        "chr8_KZ208915v1_fix 6367528 chr15_ML143371v1_fix 5500449 chr15_KQ031389v1_alt 2365364",
        "chr10",
    ),
    "T2T-CHM13": (
        "igvteam/igv genomes/sizes/hs1.chrom.sizes",
        "chr1 248387328 chr2 242696752 chr3 201105948 chr4 193574945 chr5 182045439 chr6 172126628 chr7 160567428 "
        "chr8 146259331 chr9 150617247 chr10 134758134 chr11 135127769 chr12 133324548 chr13 113566686 "
        "chr14 101161492 chr15 99753195 chr16 96330374 chr17 84276897 chr18 80542538 chr19 61707364 chr20 66210255 "
        "chr21 45090682 chr22 51324926 chrX 154259566 chrY 62460029",
        "chrM 16569",
        "chr10",
    ),
    "mouse, GRCm39": (
        "igvteam/igv genomes/sizes/mm39.chrom.sizes",
        "chr1 195154279 chr2 181755017 chr3 159745316 chr4 156860686 chr5 151758149 chr6 149588044 chr7 144995196 "
        "chr8 130127694 chr9 124359700 chr10 130530862 chr11 121973369 chr12 120092757 chr13 120883175 "
        "chr14 125139656 chr15 104073951 chr16 98008968 chr17 95294699 chr18 90720763 chr19 61420004 chrX 169476592 "
        "chrY 91455967",
        "chrM 16299 chr1_GL456210v1_random 169725 chr1_MU069434v1_random 8412 chr5_JH584299v1_random 953012 "
        "chrUn_GL456359v1 22974 chrUn_MU069435v1 31129 chrX_GL456233v2_random 559103 chrY_JH584303v1_random 158099",
        "chr14",
    ),
    "cattle, ARS-UCD1.2": (
        "igvteam/igv genomes/sizes/bosTau9.chrom.sizes",
        "chr1 158534110 chr2 136231102 chr3 121005158 chr4 120000601 chr5 120089316 chr6 117806340 chr7 110682743 "
        "chr8 113319770 chr9 105454467 chr10 103308737 chr11 106982474 chr12 87216183 chr13 83472345 chr14 82403003 "
        "chr15 85007780 chr16 81013979 chr17 73167244 chr18 65820629 chr19 63449741 chr20 71974595 chr21 69862954 "
        "chr22 60773035 chr23 52498615 chr24 62317253 chr25 42350435 chr26 51992305 chr27 45612108 chr28 45940150 "
        "chr29 51098607 chrX 139009144",
        "chrM 16338 chrUn_NW_020190115v1 25561 chrUn_NW_020190428v1 909283 chrUn_NW_020190496v1 340813",
        "chr14",
    ),
    "zebrafish, GRCz11": (
        "igvteam/igv genomes/sizes/danRer11.chrom.sizes",
        "chr4 78093715 chr7 74282399 chr5 72500376 chr3 62628489 chr6 60270059 chr2 59640629 chr1 59578282 "
        "chr9 56459846 chr16 55266484 chr20 55201332 chr8 54304671 chr17 53461100 chr14 52660232 chr13 52186027 "
        "chr18 51023478 chr12 49182954 chr19 48449771 chr15 48040578 chr23 46223584 chr21 45934066 chr11 45484837 "
        "chr10 45420867 chr24 42172926 chr22 39133080 chr25 37502051",
        "chr8_KZ115264v1_alt 976511 chr12_KZ115372v1_alt 937928 chrUn_KN149696v2 368252 chrUn_KN147651v2 351968",
        "chr14",
    ),
    "fly, Release 6": (
        "igvteam/igv genomes/sizes/dm6.chrom.sizes; X and Y: open2c/bioframe bioframe/io/data/dm6.seqinfo.tsv",
        "chr2L 23513712 chr2R 25286936 chr3L 28110227 chr3R 32079331 chr4 1348131 chrX 23542271 chrY 3667352",
        "chrM 19524 chrUn_DS485919v1 1021 chrUn_DS483705v1 27456 chrUn_CP007102v1 12714 chrUn_DS485566v2 544",
        "chr2R",
    ),
    "yeast, R64": (
        "igvteam/igv genomes/sizes/sacCer3.chrom.sizes",
        "chrIV 1531933 chrXV 1091291 chrVII 1090940 chrXII 1078177 chrXVI 948066 chrXIII 924431 chrII 813184 "
        "chrXIV 784333 chrX 745751 chrXI 666816 chrV 576874 chrVIII 562643 chrIX 439888 chrIII 316620 chrVI 270161 "
        "chrI 230218",
        "chrM 85779",
        "chrXIV",
    ),
}
# Accessions of the same chromosomes, in the same order: RefSeq's of the fly (as browsers map them), GenBank's of human.
FLY_REFSEQ = ["NT_033779.5", "NT_033778.4", "NT_037436.4", "NT_033777.3", "NC_004353.4", "NC_004354.4", "NC_024512.1"]
HUMAN_GENBANK = [f"CM{663 + i:06d}.2" for i in range(24)]


def contigs(text: str) -> list[Contig]:
    words = text.split()
    return [Contig(name, int(length)) for name, length in zip(words[::2], words[1::2], strict=True)]


@pytest.mark.parametrize("assembly", PUBLISHED)
@pytest.mark.parametrize("naming", ["as published", "without chr"])
def test_the_territory_is_the_chromosomes(assembly, naming):
    _, chromosomes, others, heldout = PUBLISHED[assembly]
    inside, outside = contigs(chromosomes), contigs(others)
    if naming == "without chr":
        inside = [Contig(c.name.removeprefix("chr"), c.length) for c in inside]
        heldout = heldout.removeprefix("chr")
    for order in (inside + outside, outside + inside[::-1]):
        assert assembled(order) == {contig.name for contig in inside}
        assert default_holdout(order) == heldout
    counts = left_out(inside + outside, {contig.name for contig in inside})
    assert sum(n for n, _ in counts.values()) == len(outside)
    assert sum(bases for _, bases in counts.values()) == sum(contig.length for contig in outside)
    assert "chromosome" not in counts


def test_kinds_of_other_contigs():
    found = {}
    for _, _, others, _ in PUBLISHED.values():
        found |= {contig.name: role_of(contig.name) for contig in contigs(others)}
    assert {found[name] for name in found if name.endswith("_alt")} == {"alternate locus"}
    assert {found[name] for name in found if name.endswith("_fix")} == {"patch"}
    assert {found[name] for name in found if name.startswith("chrUn") or "random" in name} == {"scaffold"}
    assert found["GL000191.1"] == "scaffold"
    assert (found["chrM"], found["MT"], found["NC_007605"]) == ("organelle", "organelle", "virus or spike-in")


@pytest.mark.parametrize(
    ("assembly", "names"), [("fly, Release 6", FLY_REFSEQ), ("GRCh38 with alternate loci", HUMAN_GENBANK)]
)
def test_accessions_are_chromosomes(assembly, names):
    published = contigs(PUBLISHED[assembly][1])
    renamed = [Contig(name, contig.length) for name, contig in zip(names, published, strict=True)]
    assert [canonical_name(c.name) for c in renamed] == [canonical_name(c.name) for c in published]
    scaffolds = [Contig("NW_007931104.1", 40_000), Contig("KI270706.1", 175055), Contig("NT_187361.1", 175055)]
    assert assembled(renamed + scaffolds) == set(names)


SYNTHETIC = {  # names in an assembler's or a consortium's scheme, invented: chromosomes, others
    "VGP": ("SUPER_1 90 SUPER_2 80 SUPER_Z 70 SUPER_W 30", "SUPER_1_unloc_1 8 scaffold_40_ctg1 2"),
    "plants": ("Chr01 90 Chr02 80 Chr03 70", "ChrC 15 ChrM 36 ChrUn 20 scaffold_21 9"),
    "Arabidopsis, Ensembl": ("1 30 2 20 3 23", "Mt 3 Pt 1"),
    "linkage groups": ("LG1 40 LG2 30", "contig00001 1 tig00000012 1"),
    "hybrid wheat": ("chr1A 90 chr1B 80 chr1D 70 chrUn 60", ""),
    "fly, Ensembl": ("2L 23 2R 25 3L 28 3R 32 4 2 X 23 Y 4", "mitochondrion_genome 1 211000022278279 0 rDNA 0"),
    "fly, dm3": ("chr2L 23 chr2R 21 chrX 22", "chr2LHet 1 chrU 10 chrUextra 29"),
    "parasite": ("Pf3D7_01_v3 64 Pf3D7_14_v3 329", "Pf3D7_API_scaffold 3"),
    "GRCh38, Ensembl": ("1 248 2 242 X 156", "CHR_HSCHR6_MHC_APD_CTG1 170 KI270728.1 1 CHR_HG2232_PATCH 1"),
    "analysis set": ("chr1 248 chr2 242", "chrUn_KN707606v1_decoy 1 HLA-A*01:01:01:01 1 chrEBV 1 hs37d5 35"),
    "PanSN": ("HG002#1#chr1 248 HG002#2#chr2 242", "HG002#1#JAHKSE010000001.1 50 HG002#1#chrM 1"),
}


@pytest.mark.parametrize("scheme", SYNTHETIC)
def test_other_schemes_of_names(scheme):
    chromosomes, others = SYNTHETIC[scheme]
    if scheme == "hybrid wheat":
        chromosomes, others = "chr1A 90 chr1B 80 chr1D 70", "chrUn 60"
    inside = [Contig(c.name, 1_000_000 * c.length) for c in contigs(chromosomes)]
    outside = [Contig(c.name, 1_000_000 * c.length) for c in contigs(others)]
    assert assembled(inside + outside) == {contig.name for contig in inside}


def test_sex_chromosomes_are_not_roman_numerals():
    yeast, worm = ["chrI", "chrV", "chrIX", "chrX", "chrXV"], ["I", "II", "III", "IV", "V", "X"]
    assert sex_chromosomes([Contig(name, 9) for name in yeast]) == set()
    assert sex_chromosomes([Contig(name, 9) for name in worm]) == {"X"}
    assert sex_chromosomes([Contig(name, 9) for name in ("chr1", "chrZ", "chrW")]) == {"chrZ", "chrW"}


def test_a_draft_is_whole_and_its_hold_out_is_named():
    draft = [Contig(f"scaffold_{i}", 10 + i) for i in range(9)]
    assert assembled(draft) == {contig.name for contig in draft}
    with pytest.raises(ConfigError, match=r"None of 9 contigs is a chromosome by its name: scaffold_8 \(scaffold, 18"):
        default_holdout(draft)
    assert default_holdout(draft[:1]) == "scaffold_0:10-10"
    assert default_holdout([Contig("chr1", 600), *draft]) == "chr1:501-600"


@given(
    st.lists(
        st.tuples(st.sampled_from(["chr{}", "{}", "scaffold_{}", "chrUn_KI27{:04d}v1", "x{}"]), st.integers(1, 10**6)),
        min_size=2,
        max_size=30,
    )
)
def test_no_default_hold_out_is_a_scaffold(drawn):
    made = [Contig(pattern.format(i), length) for i, (pattern, length) in enumerate(drawn, 1)]
    try:
        heldout = default_holdout(made)
    except ConfigError:
        assert not [name for name, role in roles(made).items() if role == "chromosome"]
        return
    if len(assembled(made)) > 1:
        assert roles(made)[heldout] == "chromosome"
