"""The three strategies are the distributions that they say: counted, drawn and split as enumeration has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from kleiber.corpus.regions import read_bed
from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.errors import ConfigError, DataError, UnknownName, UnknownSample
from kleiber.genome.panel import Panel, PanelRules
from kleiber.genome.reference import Reference
from oracles import haplotype as oracle

HOLDOUT = ("c1:31-60",)


def with_n(panel: dict) -> dict:
    """Put N at the start of one contig and in the middle of another, and drop the records that touch them."""
    contigs = dict(panel["contigs"])
    contigs["c0"] = "NNNNN" + contigs["c0"][5:]
    contigs["c2"] = contigs["c2"][:40] + "N" + contigs["c2"][41:]
    keep = [r for r in panel["records"] if contigs[r[0]][r[1] - 1 : r[1] - 1 + len(r[2])] == r[2]]
    return {**panel, "contigs": contigs, "records": keep}


def open_random(seed: int, folder, policy: str = "bcftools") -> tuple[dict, Reference, Panel]:
    drawn = with_n(oracle.random_panel(seed, n_contigs=3))
    fasta, vcf = oracle.write_panel(drawn, folder)
    reference = Reference.build(fasta, folder / "reference")
    return drawn, reference, Panel.build(reference, [vcf], folder / "panel", PanelRules(policy=policy))


def stretches(panel: dict, split: str) -> list[tuple[str, int, int]]:
    """Return the N-free stretches of a split, base by base."""
    found = []
    for name, bases in panel["contigs"].items():
        heldout = set(range(30, 60)) if name == "c1" else set()
        start = None
        for at in range(len(bases) + 1):
            inside = at < len(bases) and bases[at] != "N" and (at in heldout) == (split == "heldout")
            if inside and start is None:
                start = at
            elif not inside and start is not None:
                found.append((name, start, at))
                start = None
    return found


def population(panel: dict, split: str, reach: int, window: int, policy: str) -> dict[tuple, tuple[str, bool]]:
    """Return every member of U, as (sample, slot, contig, start), with its window and whether it holds an edit."""
    found = {}
    for s in range(len(panel["samples"])):
        for slot in (0, 1):
            for name, begin, end in stretches(panel, split):
                records = oracle.carried(panel, name, s, slot)
                bases = oracle.haplotype(panel["contigs"][name], records, policy)
                for start in range(begin, end):
                    inside = [base for base, at in bases if start <= at < end]
                    if len(inside) >= reach:
                        edited = oracle.has_edit(panel["contigs"][name], records, start, window, policy)
                        found[s, slot, name, start] = "".join(inside[:window]), edited
    return found


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from(["train", "heldout"]), st.sampled_from(["bcftools", "edits"]))
def test_populations_are_counted_as_by_enumeration(tmp_path_factory, seed, split, policy):
    drawn, reference, panel = open_random(seed, tmp_path_factory.mktemp("corpus"), policy)
    for window, reach in ((6, 6), (4, 11)):
        everything = population(drawn, split, reach, window, policy)
        config = CorpusConfig("pangenome", window, reach, HOLDOUT, split)
        described = open_corpus(reference, panel, config, 1).describe()
        assert described["n_windows"] == len(everything)
        assert described["n_variant_windows"] == sum(edited for _, edited in everything.values())


def spans(panel: dict, split: str, window: int, policy: str = "bcftools") -> dict[tuple, tuple[str, bool]]:
    """Return every member of U in span mode: the haplotype over `window` reference bases, and whether it is edited."""
    found = {}
    for s in range(len(panel["samples"])):
        for slot in (0, 1):
            for name, begin, end in stretches(panel, split):
                records = oracle.carried(panel, name, s, slot)
                bases = oracle.haplotype(panel["contigs"][name], records, policy)
                for start in range(begin, end - window + 1):
                    edited = oracle.span_has_edit(panel["contigs"][name], records, start, start + window, policy)
                    found[s, slot, name, start] = oracle.span(bases, start, start + window), edited
    return found


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from(["bcftools", "edits"]))
def test_span_populations_are_counted_as_by_enumeration(tmp_path_factory, seed, policy):
    drawn, reference, panel = open_random(seed, tmp_path_factory.mktemp("corpus"), policy)
    for window in (5, 9):
        everything = spans(drawn, "train", window, policy)
        described = open_corpus(reference, panel, CorpusConfig("variant", window, None, HOLDOUT, mode="span"), 1)
        assert described.describe()["n_windows"] == len(everything)
        assert described.n_variant_windows == sum(edited for _, edited in everything.values())


@pytest.mark.parametrize("strategy", ["pangenome", "variant"])
def test_span_draws_are_uniform(strategy, tmp_path):
    drawn, reference, panel = open_random(11, tmp_path)
    everything = {k: v for k, v in spans(drawn, "train", 6).items() if strategy == "pangenome" or v[1]}
    corpus = open_corpus(reference, panel, CorpusConfig(strategy, 6, None, HOLDOUT, mode="span"), 3)
    counts = dict.fromkeys(everything, 0)
    n = 20 * len(everything)
    places = corpus.places(np.arange(n))
    for i in range(n):
        sample = panel.samples.index(places["sample"][i])
        key = sample, places["slot"][i], places["contig"][i], places["start"][i] - 1
        counts[key] += 1
        if i < 500:
            assert corpus[i].tobytes().decode() == everything[key][0]
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_contigs_drawn_first_are_equally_likely(tmp_path):
    (tmp_path / "r.fa").write_text(f">long\n{'ACGTT' * 400}\n>short\n{'ACGTT' * 20}\n")
    reference = Reference.build(tmp_path / "r.fa", tmp_path / "r")
    even = open_corpus(reference, None, CorpusConfig("reference", 10, chromosome_uniform=True), 1)
    places = even.places(np.arange(4000))
    assert 0.46 < np.mean([c == "short" for c in places["contig"]]) < 0.54
    usual = open_corpus(reference, None, CorpusConfig("reference", 10), 1).places(np.arange(4000))
    assert np.mean([c == "short" for c in usual["contig"]]) < 0.08


def test_included_and_excluded_regions_and_n(tmp_path):
    (tmp_path / "r.fa").write_text(f">a\n{'ACGTT' * 20}{'N' * 30}{'GATTA' * 20}\n")
    reference = Reference.build(tmp_path / "r.fa", tmp_path / "r")

    def windows(**options) -> int:
        return open_corpus(reference, None, CorpusConfig("reference", 10, **options), 1).describe()["n_windows"]

    assert windows() == 91 + 91
    assert windows(with_n=True) == 221
    assert windows(include=("a:1-50",)) == 41
    assert windows(exclude=("a:1-50",)) == 41 + 91
    assert windows(include=("a:1-60",), exclude=("a:21-30",), holdout=("a:51-60",)) == 11 + 11
    (tmp_path / "good.bed").write_text("# comment\na\t0\t50\tS\t1\n")
    assert read_bed(tmp_path / "good.bed") == [["a", "0", "50", "S", "1"]]
    (tmp_path / "point.bed").write_bytes(b"chrom\tstart\tend\r\na\t9\t9\r\na\t0\t9\r\n")
    assert read_bed(tmp_path / "point.bed") == [["a", "0", "9"]]
    for text in ("a\t5\n", "a\t9\t8\n", "a\tx\t9\n"):
        (tmp_path / "bad.bed").write_text(text)
        with pytest.raises(DataError, match=r"bad.bed, line 1: no interval"):
            read_bed(tmp_path / "bad.bed")


def test_chosen_samples_only(tmp_path):
    _, reference, panel = open_random(5, tmp_path)
    corpus = open_corpus(reference, panel, CorpusConfig("pangenome", 6, samples=("S1",)), 1)
    assert set(corpus.places(np.arange(200))["sample"]) == {"S1"}
    with pytest.raises(UnknownSample, match="S7"):
        open_corpus(reference, panel, CorpusConfig("pangenome", 6, samples=("S7",)), 1)


def test_no_held_out_base_is_ever_read(tmp_path):
    """Every window is a substring of what a haplotype has between the held-out blocks, deletions across them too."""
    drawn, reference, panel = open_random(8, tmp_path)
    allowed = set()
    for s in range(2):
        for slot in (0, 1):
            for name, begin, end in stretches(drawn, "train"):
                bases = oracle.haplotype(drawn["contigs"][name], oracle.carried(drawn, name, s, slot))
                inside = "".join(base for base, at in bases if begin <= at < end)
                allowed |= {inside[i : i + 8] for i in range(len(inside) - 7)}
    for strategy in ("reference", "pangenome", "variant"):
        rows = open_corpus(reference, panel, CorpusConfig(strategy, 8, 8, HOLDOUT), 3).batch(np.arange(2000))
        if strategy != "reference":
            assert {row.tobytes().decode() for row in rows} <= allowed


@pytest.mark.parametrize("strategy", ["reference", "pangenome", "variant"])
def test_draws_are_uniform_over_the_population(strategy, tmp_path):
    drawn, reference, panel = open_random(11, tmp_path)
    everything = population(drawn, "train", 8, 6, "bcftools")
    if strategy == "reference":
        alone = {**drawn, "records": [], "samples": ["S0"]}
        everything = {k: v for k, v in population(alone, "train", 8, 6, "bcftools").items() if k[1] == 0}
    if strategy == "variant":
        everything = {key: value for key, value in everything.items() if value[1]}
    corpus = open_corpus(reference, panel, CorpusConfig(strategy, 6, 8, HOLDOUT), 3)
    counts = dict.fromkeys(everything, 0)
    n = 40 * len(everything)
    windows = corpus.batch(np.arange(n))
    for i in range(n):
        where = corpus.explain(i)
        sample = panel.samples.index(where["sample"]) if where["sample"] else 0
        key = sample, where["slot"] or 0, where["contig"], where["start"] - 1
        counts[key] += 1  # a KeyError is a window outside the population
        assert windows[i].tobytes().decode() == everything[key][0]
    assert chisquare(list(counts.values())).pvalue > 1e-4


def test_windows_do_not_depend_on_order_or_batching(tmp_path):
    _, reference, panel = open_random(5, tmp_path)
    config = CorpusConfig("variant", 6, 8, HOLDOUT, reverse_complement=0.5)
    corpus = open_corpus(reference, panel, config, 3)
    together = corpus.batch(np.arange(50))
    backwards = np.stack([open_corpus(reference, panel, config, 3)[i] for i in reversed(range(50))])[::-1]
    np.testing.assert_array_equal(together, backwards)
    assert not np.array_equal(together, open_corpus(reference, panel, config, 4).batch(np.arange(50)))


def test_rows_read_on_along_the_haplotype(tmp_path):
    _, reference, panel = open_random(5, tmp_path)
    corpus = open_corpus(reference, panel, CorpusConfig("pangenome", 6, 12, HOLDOUT), 3)
    np.testing.assert_array_equal(corpus.rows(np.arange(30), 12)[:, :6], corpus.batch(np.arange(30)))
    with pytest.raises(ConfigError, match="13 bases are wanted of windows that reach 12"):
        corpus.rows(np.arange(3), 13)


def test_reverse_complement(tmp_path):
    _, reference, panel = open_random(5, tmp_path)
    forward = open_corpus(reference, panel, CorpusConfig("pangenome", 9), 3).batch(np.arange(20))
    turned = open_corpus(reference, panel, CorpusConfig("pangenome", 9, reverse_complement=1.0), 3).batch(np.arange(20))
    for a, b in zip(forward, turned, strict=True):
        assert a.tobytes().translate(bytes.maketrans(b"ACGT", b"TGCA"))[::-1] == b.tobytes()


def test_smaller_fractions_lie_inside_larger_ones():
    from kleiber.corpus.regions import unique_part
    from kleiber.genome.assembly import Region

    whole = [Region("a", 0, 3_000_000), Region("b", 10, 999_999)]
    covered = []
    for fraction in (0.25, 0.5, 1.0):
        part = unique_part(whole, fraction, 7)
        size = sum(r.end - r.start for r in part)
        assert size == pytest.approx(fraction * 3_999_989, abs=50_000)
        covered.append({(r.contig, at) for r in part for at in range(r.start, r.end, 1000)})
    assert covered[0] <= covered[1] | covered[0]
    quarter, half = (unique_part(whole, f, 7) for f in (0.25, 0.5))
    assert all(any(h.contig == q.contig and h.start <= q.start and q.end <= h.end for h in half) for q in quarter)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"strategy": "pangenom"}, UnknownName, "'pangenome'"),
        ({"split": "test"}, UnknownName, "Unknown split 'test'"),
        ({"window": 0}, ConfigError, "cannot be"),
        ({"window": 99}, ConfigError, "No window of 99 bases fits"),
        ({"holdout": ("c9",)}, ConfigError, "c9"),
        ({"holdout": ("c1:50-99",)}, ConfigError, "80 bases long"),
    ],
)
def test_what_cannot_be_is_an_error(change, error, message, tmp_path):
    _, reference, panel = open_random(5, tmp_path)
    with pytest.raises(error, match=message):
        open_corpus(reference, panel, CorpusConfig(**{"strategy": "pangenome", "window": 6, **change}), 1)


def test_scaffolds_are_not_read_unless_they_are_asked_for(tmp_path):
    """Alternate loci repeat chromosomes, held-out ones too; a genome without the human names is read whole."""
    bases = "ACGT" * 10
    names = ["NC_000020.11", "NC_000008.11", "NT_187565.1", "NC_012920.1"]
    (tmp_path / "r.fa").write_text("".join(f">{name} chr8 or so\n{bases}\n" for name in names))
    reference = Reference.build(tmp_path / "r.fa", tmp_path / "r")

    def read(**options) -> set[str]:
        corpus = open_corpus(reference, None, CorpusConfig("reference", 4, holdout=("chr8",), **options), 1)
        return {region.contig for region in corpus.territory}

    assert read() == {"NC_000020.11"}
    assert read(split="heldout") == {"NC_000008.11"}
    assert read(contigs=("chr20", "NT_187565.1")) == {"NC_000020.11", "NT_187565.1"}
    (tmp_path / "o.fa").write_text(f">scaffold1\n{bases}\n>scaffold2\n{bases}\n")
    other = Reference.build(tmp_path / "o.fa", tmp_path / "o")
    corpus = open_corpus(other, None, CorpusConfig("reference", 4), 1)
    assert {region.contig for region in corpus.territory} == {"scaffold1", "scaffold2"}
