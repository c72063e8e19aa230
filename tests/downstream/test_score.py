"""Scores of variants, against a twin that takes one at a time in plain loops."""

from __future__ import annotations

import json

import numpy as np
import pysam
import pytest
import torch

from kleiber.cli import app
from kleiber.corpus.counts import WordCounts
from kleiber.downstream.alleles import Layout
from kleiber.downstream.likelihood import allele_scores
from kleiber.downstream.opponents import LONGEST, count_ratios
from kleiber.downstream.variants import Variant, VariantFile
from kleiber.errors import ConfigError, DataError
from kleiber.model.config import shape_for
from kleiber.model.networks import network
from kleiber.tokens.kmer import OverlappingKmerTokenizer
from kleiber.tokens.tokenizer import CODES
from kleiber.tokens.train import train_tokenizer
from oracles.alleles import ratio_and_distance

ROW = 30
CONTIG = "20"


def drawn_model(tokenizer, architecture="shortconv", seed=3):
    """A network whose weights are large enough for every token to matter."""
    model = network(shape_for("0.02M", tokenizer.vocab_size, architecture=architecture))
    model.initialise(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model.eval()


@pytest.fixture(scope="module")
def tokenizers(windows):
    return {name: train_tokenizer(name, windows[:300]) for name in ("bpe64", "3mer", "nucleotide")}


@pytest.fixture(scope="module")
def genome(embedded):
    return embedded[0].bases(CONTIG)[: embedded[0].length(CONTIG)].tobytes().decode()


def variants_at(genome, starts):
    """Alleles of every kind at real places."""
    found = []
    for i, start in enumerate(starts):
        other = {"A": "C", "C": "T", "G": "A", "T": "G"}
        n = 1 + i % 4
        ref = genome[start : start + n]
        found.append(Variant(CONTIG, start, ref, "".join(other[letter] for letter in ref)))  # SNV, MNV
        found.append(Variant(CONTIG, start, genome[start], genome[start] + "TTAC"[: 1 + i % 4]))  # insertion
        found.append(Variant(CONTIG, start, genome[start : start + 2 + i % 5], genome[start]))  # deletion
    return found


@pytest.mark.parametrize("name", ["bpe64", "3mer", "nucleotide"])
@pytest.mark.parametrize("architecture", ["shortconv", "dnabert2"])
def test_the_scorer_agrees_with_one_variant_at_a_time(embedded, tokenizers, genome, name, architecture):
    tokenizer = tokenizers[name]
    model = drawn_model(tokenizer, architecture)
    starts = [1_600_003, 1_200_010, 1_500_321, 2_000_100]
    variants = variants_at(genome, starts[: 2 if name == "nucleotide" else 4])  # whose indels have many rows
    ratios, distances = allele_scores(model, Layout(embedded[0], tokenizer, ROW).lay(variants, True))
    for variant, ratio, distance in zip(variants, ratios, distances, strict=True):
        wanted = ratio_and_distance(model, tokenizer, genome, variant.start, variant.ref, variant.alt, ROW)
        assert (ratio, distance) == pytest.approx(wanted, abs=1e-5)
    assert len(set(ratios.round(6))) > len(ratios) / 2  # the model says something


def test_the_other_strand_of_everything_scores_the_same(embedded, tokenizers, genome, tmp_path):
    from kleiber.genome.reference import Reference
    from oracles.alleles import turned

    piece = genome[1_600_000:1_604_000]
    made = []
    for name, text in (("there", piece), ("back", turned(piece))):
        (tmp_path / f"{name}.fa").write_text(f">c\n{text}\n")
        made.append(Reference.build(tmp_path / f"{name}.fa", tmp_path / name))
    ref, alt = piece[2000:2001], "A" if piece[2000] != "A" else "C"
    for tokenizer in (tokenizers["bpe64"], tokenizers["3mer"]):
        model = drawn_model(tokenizer)
        forward = [Variant("c", 2000, ref, alt)]
        back = [Variant("c", 3999 - 2000, turned(ref), turned(alt))]
        one, other = (
            allele_scores(model, Layout(genome, tokenizer, ROW).lay(variants, True))
            for genome, variants in zip(made, (forward, back), strict=True)
        )
        assert np.allclose(one, other, atol=1e-5)


def test_an_snv_costs_one_row_a_strand_and_alleles_of_a_site_share_it(embedded, tokenizers, genome):
    start = 1_600_003
    others = [base for base in "ACGT" if base != genome[start]]
    for tokenizer in tokenizers.values():
        laid = Layout(embedded[0], tokenizer, ROW).lay([Variant(CONTIG, start, genome[start], o) for o in others], True)
        assert len(laid.masked) == 2
        assert len(laid.whole) == 8  # four alleles on two strands
        assert {len(ids) for ids, _ in laid.masked} == {ROW + 2}


def test_ends_of_contigs_and_n_are_handled_and_counted(tmp_path, tokenizers, windows):
    from kleiber.genome.reference import Reference

    bases = windows[0][:600].tobytes().decode()
    (tmp_path / "a.fa").write_text(f">c\n{bases[:300]}NNN{bases[303:]}\n")
    reference = Reference.build(tmp_path / "a.fa", tmp_path / "a")
    for tokenizer in tokenizers.values():
        model = drawn_model(tokenizer)
        starts = [0, 1, 150, 298, 299, 304, 598, 599]
        variants = [Variant("c", s, bases[s], "A" if bases[s] != "A" else "G") for s in starts]
        variants += [Variant("c", 0, bases[0], bases[0] + "ACG"), Variant("c", 597, bases[597:600], bases[597])]
        laid = Layout(reference, tokenizer, ROW).lay(variants, True)
        ratios, distances = allele_scores(model, laid)
        assert np.isfinite(ratios).all()
        assert np.isfinite(distances).all()
        assert laid.n_cut >= 8
        masked = {token for ids, _ in laid.masked for token in ids}
        assert 0 not in masked  # no [UNK]


def test_counts_agree_with_words_counted_in_plain_loops(embedded, genome):
    counts = WordCounts(LONGEST)
    territory = genome[1_600_000:1_660_000]
    counts.add(CODES[np.frombuffer(territory.encode(), np.uint8)])
    variants = variants_at(genome, [1_610_000, 2_000_100])
    found = count_ratios(counts, embedded[0], variants)
    from oracles.alleles import turned

    both = [territory, turned(territory)]

    def times(word):
        return sum(sum(text[i:].startswith(word) for i in range(len(text))) for text in both)

    variant = variants[0]  # an SNV: counts of both sides, backing off from a uniform guess
    around = genome[variant.start - 5 : variant.start + 6]
    chances = dict.fromkeys("ACGT", 0.25)
    for side in range(6):
        left, right = around[5 - side : 5], around[6 : 6 + side]
        n = {base: times(left + base + right) for base in "ACGT"}
        chances = {base: (n[base] + 16 * chances[base]) / (sum(n.values()) + 16) for base in "ACGT"}
    assert found["TWO_SIDED"][0] == pytest.approx(np.log(chances[variant.alt] / chances[variant.ref]), abs=1e-9)
    assert all(np.isfinite(values).all() for values in found.values())


def test_overlapping_words_are_refused(embedded):
    with pytest.raises(ConfigError, match="Overlapping"):
        Layout(embedded[0], OverlappingKmerTokenizer(3), ROW)


HEADER = """##fileformat=VCFv4.2
##contig=<ID=20,length=3000000>
##INFO=<ID=CLASS,Number=1,Type=String,Description="LOF, INT or FUNC">
##INFO=<ID=CADD,Number=1,Type=Float,Description="CADD">
##INFO=<ID=EFFECT,Number=A,Type=Float,Description="a number">
##INFO=<ID=SIG,Number=1,Type=String,Description="what was said">
##INFO=<ID=ONE,Number=1,Type=Float,Description="which is missing everywhere">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizers, genome):
    """A checkpoint, its tokenizer, a FASTA and a VCF of everything that a file may hold."""
    from dataclasses import asdict
    from importlib.resources import files

    from kleiber.train.checkpoint import save_state

    folder = tmp_path_factory.mktemp("score")
    tokenizer = tokenizers["bpe64"]
    model = drawn_model(tokenizer)
    weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    save_state(folder / "model.safetensors", weights, asdict(model.config))
    tokenizer.save(folder / "tokenizer.json")
    (folder / "genome.fa.gz").symlink_to(str(files("kleiber") / "data" / "embedded" / "chr20_1-4Mb.GRCh37.fa.gz"))
    starts = [i for i in range(1_600_000, 1_604_000, 50) if genome[i] in "ACGT"]
    lines = []
    for i, start in enumerate(starts):
        ref = genome[start]
        alts = [base for base in "ACGT" if base != ref][: 1 + i % 2]
        numbers = ",".join(str(i + j) for j in range(len(alts)))
        label = ("LOF", "INT", "FUNC")[i % 3]
        info = f"CLASS={label};CADD={i % 7};EFFECT={numbers};SIG={label}"
        lines.append(f"20\t{start + 1}\t.\t{ref}\t{','.join(alts)}\t.\t.\t{info}\n")
    lines.append(f"20\t1700001\t.\t{genome[1_700_000]}\t<DEL>\t.\t.\tCLASS=LOF\n")
    (folder / "variants.vcf").write_text(HEADER + "".join(lines))
    with open(folder / "wrong.vcf", "w") as file:
        other = "A" if genome[1_600_000] != "A" else "C"
        file.write(HEADER + f"20\t1600001\t.\t{other}\tG\t.\t.\tCLASS=LOF\n")
    return folder


def score(folder, *arguments, vcf="variants.vcf"):
    command = ["score", folder, "--reference", folder / "genome.fa.gz", "--vcf", folder / vcf, "--length", ROW + 2]
    app([str(part) for part in (*command, "--threads", 1, *arguments)], result_action="return_value")


@pytest.mark.parametrize("ending", ["vcf.gz", "bcf", "vcf"])
def test_what_comes_out_is_what_went_in_with_scores(folder, ending, capsys):
    out = folder / f"out.{ending}"
    score(folder, "--out", out)
    assert "1 not scored: symbolic" in capsys.readouterr().out
    with pysam.VariantFile(str(out)) as written, pysam.VariantFile(str(folder / "variants.vcf")) as given:
        assert written.header.info["KLEIBER_LLR"].number == "A"
        for record, before in zip(written, given, strict=True):
            assert (record.pos, record.alts, record.info["CLASS"]) == (before.pos, before.alts, before.info["CLASS"])
            scored = not before.alts[0].startswith("<")
            assert ("KLEIBER_LLR" in record.info) == scored
            assert not scored or len(record.info["KLEIBER_LLR"]) == len(before.alts)
    with pytest.raises(ConfigError, match="bears KLEIBER_LLR already"):
        score(folder, vcf=out.name)


def test_a_table_holds_the_same_numbers(folder, capsys):
    score(folder, "--distance")
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    score(folder, "--out", folder / "same.vcf")
    with pysam.VariantFile(str(folder / "same.vcf")) as written:
        values = [v for record in written for v in record.info.get("KLEIBER_LLR", (None,))]
    assert printed[0] == ["contig", "position", "ref", "alt", "KLEIBER_LLR", "KLEIBER_DISTANCE"]
    shown = [float(row[4]) if row[4] else None for row in printed[1:]]
    assert shown[:-1] == pytest.approx(values[:-1], rel=1e-4)
    assert shown[-1] is None
    assert values[-1] is None


def test_labels_go_by_the_header_and_say_so(folder, capsys):
    score(folder, "--label", "CLASS", "--json", "--cluster", 500, "--distance")
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["label"]["positive"]) == ["LOF"]
    assert list(facts["label"]["negative"]) == ["FUNC"]
    assert list(facts["label"]["left_out"]) == ["INT"]
    assert set(facts["agreements"]) == {"KLEIBER_LLR", "KLEIBER_DISTANCE", "CADD"}
    score(folder, "--label", "CLASS", "--positive", "FUNC", "--negative", "LOF", "INT", "--json", "--cluster", 500)
    turned = json.loads(capsys.readouterr().out)
    assert turned["agreements"]["CADD"]["auroc"]["n"] > facts["agreements"]["CADD"]["auroc"]["n"]
    score(folder, "--label", "EFFECT", "--json", "--cluster", 500)
    numeric = json.loads(capsys.readouterr().out)
    assert set(numeric["agreements"]["KLEIBER_LLR"]) == {"spearman"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--label", "SIG"), "Which values of SIG are harmful is not said"),
        (("--label", "CLAS"), "CLASS"),
        (("--label", "CLASS", "--positive", "LOF"), "belong together"),
        (("--label", "CLASS", "--positive", "loss", "--negative", "FUNC"), "No variant"),
        (("--label", "CLASS", "--harmful", "low"), "none is high or low"),
        (("--label", "ONE"), "all have the same ONE, or none"),
        (("--out", "x.txt"), "has to end in"),
    ],
)
def test_nothing_is_guessed_and_nothing_scored_first(folder, arguments, says, monkeypatch):
    from kleiber.downstream import likelihood
    from kleiber.errors import KleiberError

    monkeypatch.setattr(likelihood, "allele_scores", lambda *given, **named: pytest.fail("it scored"))
    with pytest.raises(KleiberError, match=says):
        score(folder, *arguments)


SECOND = """##fileformat=VCFv4.3
##INFO=<ID=FX,Number=A,Type=String,Description="what it does">
##INFO=<ID=MEASURED,Number=A,Type=Float,Description="what is left of the function">
##INFO=<ID=phyloP100,Number=1,Type=Float,Description="conservation">
##INFO=<ID=CLNSIG,Number=.,Type=String,Description="as ClinVar has it">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""


@pytest.fixture(scope="module")
def second(folder, genome):
    """A file of another kind: a row a site, labels an allele, some of them missing, the contig called otherwise."""
    lines, known = [], []
    for i, start in enumerate(range(1_700_000, 1_706_000, 100)):
        alts = "ACGT".replace(genome[start], "")
        words = [("loss", "kept", "between", ".")[(i + j) % 4] for j in range(3)]
        numbers = [("." if (i + j) % 5 == 0 else f"{(7 * i + 3 * j) % 11}") for j in range(3)]
        said = ("Pathogenic", "Benign/Likely_benign", "Pathogenic,risk_factor")[i % 3]
        info = f"FX={','.join(words)};MEASURED={','.join(numbers)};CLNSIG={said}"
        info += f";phyloP100={i % 7}" if i % 3 else ""
        lines.append(f"chr20\t{start + 1}\t.\t{genome[start].lower()}\t{','.join(alts)}\t.\t.\t{info}\n")
        known += [(word, number, i % 7 if i % 3 else None) for word, number in zip(words, numbers, strict=True)]
    (folder / "second.vcf").write_text(SECOND + "".join(lines))
    return known


def test_labels_of_alleles_and_missing_ones(folder, second, capsys):
    from scipy.stats import spearmanr
    from sklearn.metrics import roc_auc_score

    score(folder, "--label", "FX", "--positive", "loss", "--negative", "kept", "between", "--json", vcf="second.vcf")
    facts = json.loads(capsys.readouterr().out)
    assert facts["label"]["positive"] == {"loss": 45}
    assert facts["label"]["left_out"] == {"": 45}
    pairs = [(word == "loss", score) for word, _, score in second if word != "." and score is not None]
    found = facts["agreements"]["phyloP100"]["auroc"]
    assert (found["n"], found["value"]) == (len(pairs), pytest.approx(roc_auc_score(*zip(*pairs, strict=True))))
    named = ("--positive", "Pathogenic", "--negative", "Benign/Likely_benign")
    score(folder, "--label", "CLNSIG", *named, "--json", vcf="second.vcf")
    facts = json.loads(capsys.readouterr().out)
    assert facts["label"]["left_out"] == {"Pathogenic,risk_factor": 60}
    score(folder, "--label", "MEASURED", "--harmful", "low", "--json", vcf="second.vcf")
    facts = json.loads(capsys.readouterr().out)
    pairs = [(-float(number), score) for _, number, score in second if number != "." and score is not None]
    found = facts["agreements"]["phyloP100"]["spearman"]
    assert (found["n"], found["value"]) == (len(pairs), pytest.approx(spearmanr(*zip(*pairs, strict=True)).statistic))


def test_no_number_of_threads_changes_a_score(embedded, tokenizers, genome):
    variants = variants_at(genome, range(1_600_000, 1_603_000, 100))
    model = drawn_model(tokenizers["bpe64"])
    laid = Layout(embedded[0], tokenizers["bpe64"], ROW).lay(variants, True)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(allele_scores(model, laid))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_bf16_stays_close(embedded, tokenizers, genome):
    variants = variants_at(genome, range(1_600_000, 1_602_000, 100))
    model = drawn_model(tokenizers["bpe64"])
    laid = Layout(embedded[0], tokenizers["bpe64"], ROW).lay(variants, True)
    (exact, distances), (ratios, others) = (allele_scores(model, laid, precision) for precision in ("fp32", "bf16"))
    assert 0 < np.abs(ratios - exact).max() < 0.1 * exact.std()
    assert 0 < np.abs(others - distances).max() < 0.2 * distances.std()


def test_another_reference_allele_is_an_error(folder):
    with pytest.raises(DataError, match=r"REF allele disagrees with the reference at 20:1,600,001"):
        score(folder, vcf="wrong.vcf")


def test_cadd_and_phylop_give_what_scikit_learn_gives(shared_data):
    metrics = pytest.importorskip("sklearn.metrics")
    from kleiber.downstream.labels import Labels
    from kleiber.genome.reference import Reference

    source = shared_data / "downstream"
    if not source.is_dir():
        pytest.skip("the measured variants are not beside this checkout")
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        reference = Reference.build(source / "brca1.GRCh37.fa.gz", f"{scratch}/reference")
        for negative in (("FUNC",), ("FUNC", "INT")):
            file = VariantFile(source / "brca1_sge_5prime_exons.vcf.gz", reference)
            labels = Labels(file, "CLASS", ("LOF",), negative)
            for site in file:
                labels.add(site, {})
            names = list(labels.names)
            values = [names[int(number)] for number in labels.values]
            truth = [value == "LOF" for value in values if value in ("LOF", *negative)]
            for one in labels.agreements(labels.choose()):
                scores = labels.scores[one.score]
                known = [s for s, value in zip(scores, values, strict=True) if value in ("LOF", *negative)]
                assert one.statistics["auroc"].value == pytest.approx(metrics.roc_auc_score(truth, known), abs=1e-12)
                wanted = metrics.average_precision_score(truth, known)
                assert one.statistics["auprc"].value == pytest.approx(wanted, abs=1e-12)
