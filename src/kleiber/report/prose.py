"""The fixed words of a report: sources and glossary, which no result can change."""

from __future__ import annotations

__all__ = ["CITATIONS", "GLOSSARY"]

CITATIONS = (
    "Original study: Empirical Study on the Scaling Laws of Human Genomic Language Models (code: "
    "github.com/wds-seu/Scaling-Laws-of-Genomic). Its printed lines are shown as published.",
    "Genotypes: The 1000 Genomes Project Consortium. A global reference for human genetic variation. "
    "Nature 526, 68–74 (2015), phase 3. doi:10.1038/nature15393",
    "Reference genome: Genome Reference Consortium, GRCh37; Church et al. Modernizing reference genome assemblies. "
    "PLoS Biology 9, e1001091 (2011). doi:10.1371/journal.pbio.1001091",
    "Model: Zhou et al. DNABERT-2: efficient foundation model and benchmark for multi-species genomes. ICLR 2024. "
    "arXiv:2306.15006",
    "Parametric law, envelope and IsoFLOP: Hoffmann et al. Training compute-optimal large language models. "
    "NeurIPS 2022. arXiv:2203.15556",
    "Fitting it without bias: Besiroglu et al. Chinchilla scaling: a replication attempt. 2024. arXiv:2404.10102",
    "Several annealed points from one run: Hägele et al. Scaling laws and compute-optimal training beyond fixed "
    "training durations. NeurIPS 2024. arXiv:2405.18392",
    "Repeated data: Muennighoff et al. Scaling data-constrained language models. NeurIPS 2023. arXiv:2305.16264",
    "Colours: Okabe and Ito, Color universal design, 2008. Figures: Vega-Lite, Satyanarayan et al., IEEE TVCG 23 "
    "(2017). doi:10.1109/TVCG.2016.2599030",
)

GLOSSARY = (
    ("arm", "One corpus with one tokenizer, trained at every size and budget."),
    ("N", "Number of parameters of a model. Sizes are named by the parameters without embeddings."),
    ("D", "Tokens that training read, counted with repeats. One token is several bases."),
    ("C", "Training compute in floating-point operations (FLOPs), counted exactly unless 6·N·D is written."),
    ("loss", "Mean negative log-probability of masked tokens, in nats per predicted token. 1 nat = 1.443 bits."),
    (
        "bits per base",
        "Negative log2-probability of all masked tokens, divided by the bases they stand for; on held-out DNA, with "
        "every scored token replaced by [MASK]. Comparable between tokenizers. Guessing gives 2.",
    ),
    ("± and s.e.", "Standard error of the evaluation, clustered by region of the held-out DNA."),
    (
        "95 % interval",
        "Range that would cover the true value in 95 of 100 repeated studies, as far as the fit can tell.",
    ),
    ("a, b", "Exponents of the compute-optimal N and D: N_opt ∝ C^a, D_opt ∝ C^b, a + b = 1 when C = 6·N·D."),
    (
        "E, A, B, α, β",
        "Constants of the law L(N, D) = E + A/N^α + B/D^β. E is the loss of an infinite model on infinite data.",
    ),
    (
        "identified",
        "The data rule out a good part of what the parameter could have been; if not, its value is no result.",
    ),
    (
        "usable, witness",
        "An exponent is usable when no witness speaks against it: neither the residuals, nor second seeds, nor fits "
        "without an edge of the table, nor IsoFLOP, nor other forms of the law. One witness against it is enough.",
    ),
    ("annealed", "Trained to the end of a cooldown, in which the learning rate falls to zero."),
    (
        "trunk, cooldown",
        "One run at constant learning rate, and the short branches from it that anneal it at each budget.",
    ),
    ("epoch", "One reading of all distinct bases that training may read."),
    ("IsoFLOP", "Models of different size trained with equal compute; the lowest one shows the best N."),
    ("envelope", "The lowest loss that any run has reached at each compute."),
    (
        "baseline",
        "A model without a network: uniform bases, token frequencies (unigram), order-k Markov chains of bases, counts "
        "of the bases on both sides.",
    ),
)
