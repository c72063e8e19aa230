"""Every parser takes bytes or refuses them in words: what fuzzing found, bombs, and drawn inputs, whole and damaged.

What a parser owes stands in `oracles.parsers`; `scripts/fuzz.py` runs the same checks for as long as one likes.
"""

from __future__ import annotations

import gzip
import json
import pickle
import random
import re
import resource
import struct
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kleiber.errors import KleiberError
from oracles.checkpoints import HUB, POSITION, SHAPE, as_pickles, as_state
from oracles.containers import BGZF_END, WRAPS, bgzf_block
from oracles.parsers import PARSERS, STUDY, tokenizer_seeds
from oracles.variants import HEADER, REGULAR, as_bcf

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1 << 20
EXAMPLES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("parsers")


@contextmanager
def memory(megabytes: int):
    """Let no allocation take more than so many megabytes beyond what is in use."""
    used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * MEGABYTE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("name", PARSERS)
def test_valid_inputs_are_taken(name, folder):
    for seed in PARSERS[name].seeds():
        assert PARSERS[name].check(seed, folder), seed[:200]


def study(old: str, new: str) -> bytes:
    assert old in STUDY.decode()
    return STUDY.decode().replace(old, new).encode()


def tokenizer(number: int, **model) -> bytes:
    document = json.loads(tokenizer_seeds()[number])
    document["model"] |= model.pop("model", {})
    return json.dumps(document | model).encode()


def csv(*rows: str) -> bytes:
    return ("\0" + "\n".join(rows) + "\n").encode()


def vcf(*rows: str) -> bytes:
    return ("\0" + HEADER + "".join("\t".join(row.split()) + "\n" for row in rows)).encode()


def bcf(at: int, value: bytes, size: int | None = None) -> bytes:
    """Return a BCF of one record with other bytes at one place of it, counted from its lengths, cut to `size`."""
    whole = as_bcf(HEADER + REGULAR.splitlines()[0] + "\n")
    begin = 9 + int.from_bytes(whole[5:9], "little")
    record = whole[begin : begin + at] + value + whole[begin + at + len(value) :]
    return b"\0" + whole[:begin] + record[:size]


def weights_of(value: object) -> bytes:
    return b"\5" + pickle.dumps(value, 2)


def state_with(position: object = None, short: str = "") -> bytes:
    """Return the file of a training run with another position, and one tensor that is too short."""
    import safetensors.torch

    state = safetensors.torch.load(as_state())
    if short:
        state[short] = state[short][:1]
    return safetensors.torch.save(state, {"position": json.dumps(position)})


REFUSED = {
    "study": {
        "a number of 5,000 digits": study("seed = 7", "seed = " + "9" * 5000),
        "nested 100,000 deep": b"a = " + b"[" * 100_000,
        "a key of 32,000 parts": b".".join([b"a"] * 32_000) + b" = 1",
        "two megabytes": STUDY + b"# " + b"x" * (2 * MEGABYTE),
        "one share twice": study("[0.5, 1.0]", "[0.5, 0.5]"),
        "a billion runs": study("seeds = 2\n", "seeds = 1000000000\n"),
        "a factor that is no number": study("[0.5, 1, 2]", "[0.5, 1, nan]"),
        "trials of no tokens": study("tokens = 1e5\n", "tokens = -1\n"),
        "a user that is not there": study('"ref.fa"', '"~nobody-of-this-name/ref.fa"'),
        "a zero byte in a file's name": study('"ref.fa"', '"ref\\u0000.fa"'),
        "a name that no folder can have": study('"tiny"', '"' + "x" * 300 + '"'),
        "a name of two lines": study('"tiny"', '"ti\\nny"'),
    },
    "fasta": {
        "letters of no alphabet": b"\0>a\nAC\xdf\xffgt\n",
        "gzip with damage that its checksum never sees": b"\3" + gzip.compress(b">a\nACGT\n" * 9)[:12] + b"\xff" * 40,
        "carriage returns alone": b"\0>chr1\rACGT\r",
        "an index without lengths": b"\0>a\nACGT\n\xff\xffa\tx\n",
        "an index of something else": b"\0>a\nACGT\n\xff\xff\xfe\x00",
        "one name twice": b"\0>a\nA\n>b\nC\n>a\nG\n",
    },
    "bed": {
        "a digit that is no number": "\0" + "20\t1\t²",
        "a number of 5,000 digits": "\0" + "20\t1\t" + "9" * 5000,
        "a region of 5,000 digits": "\1" + "20:1-" + "9" * 5000,
        "a line without a contig": "\0" + "\t1\t2\n",
    },
    "tokenizer": {
        "a k-mer of 40 letters": json.dumps(
            {
                **json.loads(tokenizer_seeds()[1]),
                "model": {
                    "type": "WordLevel",
                    "unk_token": "[UNK]",
                    "vocab": {t: i for i, t in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "A" * 40])},
                },
            }
        ).encode(),
        "nested 100,000 deep": b"[" * 100_000,
        "an id of a billion": tokenizer(0, model={"vocab": {"[UNK]": 10**9}}),
        "true for an id": tokenizer_seeds()[0].replace(b'"[CLS]": 1', b'"[CLS]": true'),
        "half a character": tokenizer(0, comment="\ud800"),
        "not a number": tokenizer(0, comment=float("nan")),
        "merges of unknown tokens": tokenizer(0, model={"merges": ["A Z", "G T", "AC GT", "T T", "TT TT"]}),
        "a prefix inside words": tokenizer(0, model={"continuing_subword_prefix": "##"}),
        "dropout": tokenizer(0, model={"dropout": 0.5}),
        "words cut otherwise": tokenizer(2, pre_tokenizer={"type": "Whitespace"}),
        "lower case first": tokenizer(0, normalizer={"type": "Lowercase"}),
    },
    "table": {
        "beyond the largest number": csv("N,D,loss", "1e200,1e200,3"),
        "a product of nothing": csv("N,D,loss", "1e-200,1e-200,3"),
        "D beyond the largest number": csv("N,C,loss", "1e-200,1e200,3"),
        "true for a loss": csv("N,D,loss", "1,2,true"),
        "two columns of one name": csv("N,N,D,loss", "1,2,3,4"),
        "a list for an object": b'\2[["N", 1]]\n',
        "lists for numbers": b'\2{"N": [1], "D": 2, "loss": 3}\n',
        "nested 100,000 deep": b"\2" + b"[" * 100_000,
        "keys that are no text": b"\2[[1, 2]]\n",
        "20,000 columns": csv(",".join(f"c{i}" for i in range(20_000)), ",".join("1" * 20_000)),
        "lists for tokenizers": b'\2{"N": 1, "D": 2, "loss": 3, "tokenizer": [1]}\n',
    },
    "checkpoint": {
        "a header of 2^60 bytes": b"\0" + (1 << 60).to_bytes(8, "little") + b"{}",
        "a shape with unknown keys": b"\2" + json.dumps({**SHAPE, "x": 1}).encode(),
        "a shape that is a list": b"\2[]",
        "a shape of text": b"\2" + json.dumps({**SHAPE, "hidden": "8"}).encode(),
        "a shape of a trillion": b"\2" + json.dumps({**SHAPE, "hidden": 10**12}).encode(),
        "a billion layers": b"\3" + json.dumps({**HUB, "num_hidden_layers": 10**9}).encode(),
        "half a layer": b"\3" + json.dumps({**HUB, "num_hidden_layers": 0.5}).encode(),
        "a dropout of 7": b"\3" + json.dumps({**HUB, "hidden_dropout_prob": 7}).encode(),
        "nested 100,000 deep": b"\3" + b"[" * 100_000,
        "a configuration of pairs": b"\3" + json.dumps(list(HUB.items())).encode(),
        "a number for the weights": weights_of(3),
        "numbers for weights": weights_of({"a": 3}),
        "numbers for names": weights_of({1: 3}),
        "an empty pickle": b"\5",
        "a pickle that is cut": b"\5" + pickle.dumps({"a": [1, 2, 3]}, 2)[:-4],
        "a training run without its position": b"\7" + state_with({"step": 1}),
        "a training run of another shape": b"\7" + state_with(POSITION, "model.bert.embeddings.LayerNorm.bias"),
        "a training run with half of its moments": b"\7"
        + state_with(POSITION, "exp_avg.bert.embeddings.LayerNorm.bias"),
        "half an archive": b"\4" + as_pickles(False)[: len(as_pickles(False)) // 2],
        "half an old pickle": b"\6" + as_pickles(True)[:300],
    },
    "vcf": {
        "a position of 2^64 + 1": vcf("20 18446744073709551617 . A C . PASS . GT 0|1 0|0 0|0"),
        "an END of 30 digits": vcf("20 1 . A <DEL> . PASS END=999999999999999999999999999999 GT 0|1 0|0 0|0"),
        "a word of a million letters in a header line": b"\0##contig=<" + b"a" * MEGABYTE + b"\n20\t1\n",
        "a block of 4 GB": b"\3" + bgzf_block(b"x" * 60_000, claimed=0xFFFFFFFF) + BGZF_END,
        "a block shorter than its header": b"\3" + BGZF_END[:16] + b"\x0a\0" + BGZF_END[18:],
        "a header of 67 MB": b"\1" + b"#" * (64 * MEGABYTE + 1),
        "a BCF header of 4 GB": b"\0BCF\2\2" + b"\xff" * 4,
        "a record of nothing": bcf(0, struct.pack("<II", 0, 0)),
        "a record of nothing at the end": bcf(0, bytes(8), 8),
        "a record of 8 GB": bcf(0, b"\xff" * 8),
        "a record without alleles": bcf(8 + 18, b"\0\0"),
        "an ID that goes on beyond": bcf(8 + 24, b"\xf7\x13\xff\xff\xff\x7f"),
        "a call of an allele that is not there": bcf(0, b"")[:-1] + b"\x7f",
    },
}


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, cases in REFUSED.items() for what in cases])
def test_is_refused_in_words(name, what, folder):
    data = REFUSED[name][what]
    with memory(700):
        assert not PARSERS[name].check(data if isinstance(data, bytes) else data.encode(), folder)


TAKEN = {
    "fasta": {"blanks, digits and RNA": b"\0>a\n1 ACGU acgu 9\n"},
    "bed": {"a contig that begins with track": b"\0track1\t1\t2\n"},
    "table": {
        "seeds that are names": csv("N,D,loss,seed", "1,2,3,a", "1,2,3,b"),
        "rows of no number, twice": csv("N,D,loss,x", "1,2,3,nan", "1,2,3,nan"),
        "a seed that is missing": csv("N,D,loss,seed", "1,2,3,1", "1,2,3,"),
    },
    "vcf": {
        "a filter of four letters": vcf("20 1 . A C . POOR . GT 0|1 0|0 0|0"),
        "END beside a second allele, a symbolic one": vcf("20 1 . A C,<DEL> . PASS END=5 GT 0|1 2|0 0|0"),
        "a line shorter than the name of the contig before": b"\x10"
        + vcf(f"{'L' * 90} 1 . A C . PASS . GT 0|1 0|0 0|0", "20 1 . A C . PASS . GT 0|1 0|0 0|0")[1:],
    },
}


@pytest.mark.parametrize(("name", "what"), [(name, what) for name, cases in TAKEN.items() for what in cases])
def test_is_read_as_it_stands(name, what, folder):
    assert PARSERS[name].check(TAKEN[name][what], folder)


def test_what_a_small_file_blows_up_to_is_bounded(folder, monkeypatch):
    """The bounds are gigabytes; here they are small, and the files are larger than these."""
    monkeypatch.setattr("kleiber.genome.reference.LONGEST", MEGABYTE)
    monkeypatch.setattr("kleiber.genome.reference.MOST", 3)
    monkeypatch.setattr("kleiber.genome.vcf.LONGEST", MEGABYTE)
    many = "".join(f">c{i}\nA\n" for i in range(4))
    line = HEADER + "20\t1\t" + "x" * 3 * MEGABYTE
    for name, text in (("fasta", ">a\n" + "A" * 2 * MEGABYTE), ("fasta", many), ("vcf", line)):
        assert not PARSERS[name].check(b"\1" + text.encode(), folder)


@pytest.mark.parametrize("size", ["0M", "0.000001K", "999999999B", "9" * 5000 + "M"])
def test_a_size_that_no_model_has(size):
    from kleiber.model.config import shape_for

    with pytest.raises(KleiberError, match="No model has about"):
        shape_for(size, 4096)


@pytest.mark.parametrize("spec", ["99999999999mer", "1mer", "bpe3", "bpe" + "9" * 5000])
def test_a_tokenizer_that_no_study_can_have(spec):
    from kleiber.study.plan import vocab_size

    with pytest.raises(KleiberError, match="There is no tokenizer"):
        vocab_size(spec)


# --- drawn inputs ----------------------------------------------------------------------------------------------------

names = st.text("abcXYZ019._-", min_size=1, max_size=8).filter(lambda name: not name.startswith("."))
dna = st.text("ACGT", min_size=1, max_size=12)


@st.composite
def studies(draw) -> tuple[str, dict]:
    """Draw a study as TOML, and what it says."""
    sizes = draw(st.lists(st.sampled_from(["0.05M", "100K", "0.4M", "15M", "2M"]), min_size=1, max_size=4, unique=True))
    tokens = sorted(draw(st.lists(st.integers(10**5, 10**12), min_size=1, max_size=3, unique=True)))
    shares = draw(st.lists(st.floats(0.01, 1), min_size=1, max_size=3, unique=True))
    arms = draw(st.dictionaries(names, st.sampled_from(["6mer", "bpe64", "nucleotide"]), min_size=1, max_size=3))
    seed, seeds = draw(st.integers(0, 2**62)), draw(st.integers(1, 5))
    title = draw(st.text(st.characters(codec="utf-8"), max_size=20))
    lines = ["[study]", f"name = {json.dumps(draw(names))}", f"seed = {seed}", f"title = {quoted(title)}"]
    lines += ["[genome]", 'reference = "embedded"', 'holdout = ["20"]', "[arms]"]
    lines += [f"{json.dumps(arm)} = {{ sampling = 'reference', tokenizer = '{spec}' }}" for arm, spec in arms.items()]
    lines += ["[ladder]", f"sizes = {sizes}", f"tokens = {tokens}", f"unique = {shares}", f"seeds = {seeds}"]
    says = {"sizes": sizes, "tokens": tokens, "unique": shares, "arms": list(arms), "seed": seed, "title": title}
    return "\n".join(lines), {**says, "n": len(arms) * len(sizes) * len(shares) * seeds}


def quoted(text: str) -> str:
    """Return a TOML string: every letter but the plainest as its number."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in text) + '"'


@given(studies())
@settings(max_examples=EXAMPLES)
def test_a_drawn_study_says_what_was_written(drawn):
    from kleiber.study.config import parse_study

    text, says = drawn
    study = parse_study(text, "study.toml", Path("/"))
    assert study.study.title == says["title"]
    assert (study.study.seed, list(study.arms)) == (says["seed"], says["arms"])
    assert [list(getattr(study.ladder, key)) for key in ("sizes", "tokens", "unique")] == [
        says["sizes"],
        says["tokens"],
        says["unique"],
    ]
    assert len(set(study.units())) == len(study.units()) == study.n_runs == says["n"]


@given(
    st.dictionaries(names, st.text("ACGTNacgtnRYUu 7", max_size=90), min_size=1, max_size=4),
    st.integers(1, 30),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.integers(0, 2),
)
@settings(max_examples=EXAMPLES)
def test_a_drawn_fasta_is_read_letter_by_letter(folder, contigs, width, end, wrap):
    text = "".join(
        f">{name} text{end}" + "".join(body[i : i + width] + end for i in range(0, len(body), width))
        for name, body in contigs.items()
    )
    assert PARSERS["fasta"].check(bytes([wrap]) + text.encode(), folder)


@given(st.lists(st.tuples(st.sampled_from(["20", "chr20"]), st.integers(0, 290), st.integers(1, 10)), max_size=9))
@settings(max_examples=EXAMPLES)
def test_drawn_intervals_are_the_territory(folder, intervals):
    text = "".join(f"{contig}\t{start}\t{start + length}\n" for contig, start, length in intervals)
    assert PARSERS["bed"].check(b"\0" + text.encode(), folder)


def test_a_token_that_is_never_made():
    from kleiber.tokens.bpe import BPETokenizer
    from kleiber.tokens.tokenizer import BASES, SPECIALS

    tokens, merges = ["AC", "CA", "ACA"], [("A", "C"), ("C", "A"), ("A", "CA")]  # ACA is always AC and A
    with pytest.raises(KleiberError, match=r"'ACA' \(id 11\) is never made"):
        BPETokenizer([*SPECIALS, *BASES, *tokens], list(merges))


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=30))
@settings(max_examples=EXAMPLES)
def test_a_drawn_bpe_gives_hugging_faces_ids(folder, pairs):
    from kleiber.tokens.bpe import BPETokenizer
    from kleiber.tokens.tokenizer import BASES, SPECIALS

    tokens, merges = [*SPECIALS, *BASES], []
    for left, right in pairs:
        parts = tuple(tokens[5 + i % (len(tokens) - 5)] for i in (left, right))
        if "".join(parts) not in tokens and len("".join(parts)) <= 64:
            merges.append(parts)
            tokens.append("".join(parts))
    with suppress(KleiberError):  # of a token that is never made
        data = json.dumps(BPETokenizer(tokens, merges).model).encode()
        assert PARSERS["tokenizer"].check(data, folder)


@given(st.lists(st.tuples(*[st.floats(1e-3, 1e15)] * 3), min_size=1, max_size=9, unique=True), st.integers(0, 2))
@settings(max_examples=EXAMPLES)
def test_drawn_numbers_are_the_tables(folder, rows, kind):
    if kind == 2:
        text = "".join(json.dumps(dict(zip(("N", "D", "loss"), row, strict=True))) + "\n" for row in rows)
    else:
        text = "".join((",", "\t")[kind].join(map(str, row)) + "\n" for row in [("N", "D", "loss"), *rows])
    assert PARSERS["table"].check(bytes([kind]) + text.encode(), folder)


@given(st.integers(9, 40), st.integers(1, 2), st.integers(1, 3), st.sampled_from(["float32", "bfloat16", "float16"]))
@settings(max_examples=EXAMPLES // 4)
def test_weights_of_a_drawn_shape_come_back(folder, vocabulary, layers, heads, kind):
    import torch

    from kleiber.model.config import ModelConfig
    from kleiber.model.dnabert2 import DNABERT2
    from kleiber.model.weights import load_weights
    from kleiber.train.checkpoint import save_state

    shape = {**SHAPE, "vocab_size": vocabulary, "layers": layers, "heads": heads, "hidden": 4 * heads}
    model = DNABERT2(ModelConfig(**shape))
    wanted = {name: parameter.detach().to(getattr(torch, kind)) for name, parameter in model.named_parameters()}
    save_state(folder / "drawn.safetensors", wanted, shape)
    config, found = load_weights(folder / "drawn.safetensors")
    assert config == ModelConfig(**shape)
    assert all(torch.equal(found[name], tensor.float()) for name, tensor in wanted.items())


@st.composite
def records(draw) -> list[str]:
    """Draw records of three samples, in order, regular and not."""
    lines = []
    for position in sorted(draw(st.lists(st.integers(1, 280), max_size=8))):
        alts = draw(st.lists(st.one_of(dna, st.sampled_from(["*", "<DEL>"])), min_size=1, max_size=4, unique=True))
        allele = st.sampled_from([*map(str, range(len(alts) + 1)), "."])
        call = st.one_of(allele, st.builds("{}{}{}".format, allele, st.sampled_from("|/|"), allele))
        # htslib knows the phase of a first allele, and not of a missing one
        prefixes = st.sampled_from(["", "", "|", "/"])
        call = st.builds(lambda prefix, text: text if text[0] == "." else prefix + text, prefixes, call)
        keys, cell = draw(st.sampled_from([("GT", "{}"), ("GT", "{}"), ("GT:DP", "{}:7"), ("DP", "7")]))
        lengths = "SVLEN=" + ",".join(draw(st.sampled_from(["-7", "9", "."])) for _ in alts)
        filter_, info = draw(st.sampled_from(["PASS", ".", "POOR"])), draw(st.sampled_from([".", "END=299", lengths]))
        cells = [cell.format(draw(call)) for _ in range(3)]
        lines.append("\t".join(["20", str(position), ".", draw(dna), ",".join(alts), ".", filter_, info, keys, *cells]))
    return lines


@given(records(), st.integers(0, 2))
@settings(max_examples=EXAMPLES)
def test_drawn_records_are_those_of_a_naive_reading_as_text_and_as_bcf(folder, lines, wrap):
    from kleiber.genome.calls import reading
    from kleiber.genome.vcf import VcfFile
    from oracles.variants import naive_records, records_of

    text = HEADER + "".join(line + "\n" for line in lines)
    expected = naive_records(text.encode(), 3)
    for contents in (text.encode(), as_bcf(text)):
        (folder / "drawn.vcf").write_bytes(WRAPS[wrap](contents))
        source = VcfFile(folder / "drawn.vcf")
        how = reading(source.samples, "as-is")
        found = [record for batch in source.batches(how) for record in records_of(*batch, 3)]
        assert found == expected


@pytest.mark.parametrize("name", PARSERS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=EXAMPLES)
def test_damage_is_refused_or_read(name, folder, seed):
    draw = random.Random(seed)
    data = bytearray(draw.choice(PARSERS[name].seeds()))
    for _ in range(draw.choice((1, 1, 2, 4))):
        at, n = draw.randrange(len(data)), draw.choice((1, 1, 4, 40))
        word = draw.choice(PARSERS[name].words).encode()
        data[at : at + draw.choice((0, n))] = draw.choice((b"", word, draw.randbytes(1), data[at : at + n]))
        data = data or bytearray(b"\0")
    PARSERS[name].check(bytes(data), folder)


def test_nothing_is_unpickled(folder):
    """A pickle that calls a function is refused, and no module reads one in any other way."""
    called = folder / "called"

    class Evil:
        def __reduce__(self):
            return Path.touch, (called,)

    for data in (weights_of(Evil()), weights_of({"a": Evil()}), b"\6" + pickle.dumps(Evil(), 2)):
        assert not PARSERS["checkpoint"].check(data, folder)
    assert not called.exists()
    loads = re.compile(
        r"pickle\.loads?\(|Unpickler|allow_pickle=True|weights_only=False|joblib|(?<![.\w])(?:eval|exec)\(|marshal|shelve"
    )
    found = {path.name for path in (ROOT / "src").rglob("*.py") if loads.search(path.read_text(encoding="utf-8"))}
    assert not found
