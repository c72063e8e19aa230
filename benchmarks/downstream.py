"""How fast `kleiber score` is and what it holds in memory, on SNVs made from the package's chromosome 20.

    python benchmarks/downstream.py [--size 0.5M] [--variants 2000] [--memory 100000 200000]

Speed: SNVs a second from a VCF to a VCF with the package's own parts, rows of 128 tokens, BPE 1,024, every SNV at a
site of its own unless said; ways take turns and the best turn of each counts. The plain way scores one variant at a
time, all tokens' logits, both alleles, on one thread; all threads in one product, which is plainer still, are timed as
well. Beside them the floor: two passes of the network a SNV in fp32, and nothing else. Weights are as drawn: they make
no difference to the clock. CPU milliseconds of a SNV are printed, too: other jobs on the machine change them less.

Memory: the greatest resident set of the command in a process of its own, with a small network, so that what grows with
the file is seen; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kleiber.corpus.sampling import CorpusConfig, open_corpus
from kleiber.downstream.alleles import Layout
from kleiber.downstream.likelihood import AT_ONCE, Precision, allele_scores, side_by_side
from kleiber.downstream.score import score_variants
from kleiber.downstream.variants import VariantFile
from kleiber.genome.reference import Reference
from kleiber.model.config import shape_for
from kleiber.model.networks import network
from kleiber.study.machine import cpu_name
from kleiber.tokens.train import train_tokenizer
from kleiber.train.checkpoint import save_state

FASTA = files("kleiber") / "data" / "embedded" / "chr20_1-4Mb.GRCh37.fa.gz"
FIRST = 1_000_500  # the first million bases are N
HEADER = """##fileformat=VCFv4.2
##contig=<ID=20,length=4000000>
##INFO=<ID=CLASS,Number=1,Type=String,Description="LOF or FUNC">
##INFO=<ID=EFFECT,Number=1,Type=Float,Description="a number">
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
"""
TOKENS = 126  # in a row of 128


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="0.5M")
    parser.add_argument("--variants", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--memory", type=int, nargs="*", default=[100_000, 200_000])
    parser.add_argument("--memory-size", default="0.03M")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    facts: dict[str, Any] = {"machine": cpu_name(), "cores": cores, "torch": torch.__version__, "size": options.size}
    print(f"{facts['machine']}, {cores} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        reference = Reference.build(Path(str(FASTA)), folder / "reference")
        windows = open_corpus(reference, None, CorpusConfig("reference", 700), 1).batch(np.arange(500))
        tokenizer = train_tokenizer("bpe1024", windows)
        if options.variants:
            facts["speed"] = speed(reference, tokenizer, folder, options)
        if options.memory:
            facts["memory"] = memory(reference, tokenizer, folder, options)
    print(json.dumps(facts))


def write_vcf(path: Path, reference: Reference, n: int, apart: int) -> Path:
    """Write n SNVs, each `apart` bases from the last; those of one site follow each other where it is 0."""
    bases = reference.bases("20")
    with open(path, "w") as file:
        file.write(HEADER)
        for i in range(n):
            at = FIRST + (i * apart if apart else i // 3)
            ref = chr(bases[at])
            alt = "ACGT".replace(ref, "")[i % 3]
            label = ("LOF", "FUNC")[i % 2]
            file.write(f"20\t{at + 1}\t.\t{ref}\t{alt}\t.\t.\tCLASS={label};EFFECT={i % 97 / 97:.3f}\n")
    return path


def speed(reference: Reference, tokenizer: Any, folder: Path, options: Any) -> dict[str, dict[str, float]]:
    """Time every way, and print SNVs a second."""
    model = network(shape_for(options.size, tokenizer.vocab_size, architecture="shortconv"))
    model.initialise(3)
    model.eval()
    n = options.variants
    apart = write_vcf(folder / "apart.vcf", reference, n, 2_900_000 // n)
    together = write_vcf(folder / "together.vcf", reference, n, 0)

    def through(vcf: Path, precision: Precision, distance: bool = False) -> int:
        source = VariantFile(vcf, reference)
        layout = Layout(reference, tokenizer, TOKENS)
        scorer = partial(allele_scores, model, precision=precision)
        return score_variants(
            source, layout, scorer, folder / "out.vcf", True, "KLEIBER", distance=distance
        ).n_scored  # fmt: skip

    few = max(1, n // 50)
    ways: dict[str, Callable[[], int]] = {
        "plain, fp32": lambda: plain(model, reference, tokenizer, apart, few, 1),
        "plain, threads together": lambda: plain(model, reference, tokenizer, apart, few, torch.get_num_threads()),
        "floor, fp32": lambda: floor(model, n // 4),
        "fp32": lambda: through(apart, "fp32"),
        "bf16": lambda: through(apart, "bf16"),
        "fp32, three alleles a site": lambda: through(together, "fp32"),
        "bf16, three alleles a site": lambda: through(together, "bf16"),
        "bf16, with distances": lambda: through(apart, "bf16", True),
    }
    best = dict.fromkeys(ways, (0.0, np.inf))
    for _ in range(options.turns):
        for name, way in ways.items():
            start, used = time.perf_counter(), time.process_time()
            done = way()
            rate, cost = done / (time.perf_counter() - start), 1e3 * (time.process_time() - used) / done
            best[name] = max(best[name][0], rate), min(best[name][1], cost)
    print(f"{options.size}, {model.config.n_params_non_embedding:,} parameters without embeddings, {n:,} SNVs")
    for name, (rate, cost) in best.items():
        print(f"  {name:<28}{rate:8.1f} SNVs/s {rate / best['plain, fp32'][0]:6.1f} x plain {cost:8.2f} CPU ms a SNV")
    return {name: {"snvs_per_second": rate, "cpu_ms": cost} for name, (rate, cost) in best.items()}


def plain(model: Any, reference: Reference, tokenizer: Any, vcf: Path, n: int, threads: int) -> int:
    """Score the first variants one at a time: an input for each allele and strand, and every token's logits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    layout = Layout(reference, tokenizer, TOKENS)
    variants = [variant for site in VariantFile(vcf, reference) for variant in site.variants][:n]
    for variant in variants:
        laid = layout.lay([variant], whole=False)
        with torch.inference_mode():
            for pair in laid.terms[0]:
                for parts, _ in pair:
                    for row, place, token in parts:
                        ids, positions = laid.masked[row]
                        model(torch.tensor([ids]))[0, positions[place]].log_softmax(-1)[token].item()
    torch.set_num_threads(before)
    return n


def floor(model: Any, n: int) -> int:
    """Pass two rows a SNV through the network, laid beforehand, in batches side by side; return n."""
    at_once = AT_ONCE["cpu"]
    ids = torch.randint(5, model.config.vocab_size, (at_once, TOKENS + 2))
    middle = torch.full((at_once, 1), TOKENS // 2)
    batches = -(-2 * n // at_once)
    for _ in side_by_side(model, lambda batch: model(ids, rows=middle), range(batches)):
        pass
    return batches * at_once // 2


def memory(reference: Reference, tokenizer: Any, folder: Path, options: Any) -> list[dict[str, Any]]:
    """Run the command on files of several lengths, and print the greatest resident set of each."""
    model = network(shape_for(options.memory_size, tokenizer.vocab_size, architecture="shortconv"))
    model.initialise(3)
    weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    save_state(folder / "model.safetensors", weights, asdict(model.config))
    tokenizer.save(folder / "tokenizer.json")
    found = []
    for n in options.memory:
        vcf = write_vcf(folder / f"{n}.vcf", reference, n, 0)
        for label in ((), ("--label", "CLASS")):
            command = [sys.executable, "-m", "kleiber", "score", folder, "--reference", str(FASTA), "--vcf", vcf]
            command += ["--out", folder / "scored.vcf.gz", *label]
            start = time.perf_counter()
            child = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(child.pid, 0)
            if status:
                raise SystemExit(f"{' '.join(map(str, command))} ended with {status}")
            row = {"variants": n, "label": bool(label), "mb": used.ru_maxrss / 1024, "s": time.perf_counter() - start}
            found.append(row)
            print(
                f"  {n:>9,} variants{', with a label' if label else '':<16}{row['mb']:8.0f} MB {row['s']:8.0f} s",
                flush=True,
            )
    return found


if __name__ == "__main__":
    main()
