"""What the name of a column says: which quantity, how surely, and in which unit.

A name is read as words: ``eval/CrossEntropyLoss``, ``Validation loss [nats]`` and ``final_val_loss`` all say "loss" and
"held out". Rejected: a list of aliases in order of preference, which took a training loss beside an evaluation's, and
similarity of strings, which takes anything.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

from kleiber.scaling.numbers import MAGNITUDES, magnitude, plain, words_in

__all__ = [
    "COUNTING",
    "HELD_OUT",
    "OTHER_DATA",
    "OWN",
    "OWN_NAMES",
    "PARAMETERS",
    "TOKENS",
    "TRAINING",
    "Header",
    "header",
    "is_loss",
    "rank",
]

OWN = "flops_6nd"  # a table with this column is one of kleiber's: its counts are known by name
OWN_NAMES = {"N": "n_params_non_embedding", "D": "n_tokens", "loss": "loss", "C": "flops", "se": "loss_se"}
COUNTING = words_in("num n number of count counts the no nb total anzahl nombre de model config summary hparams")
PARAMETERS = words_in("params param parameters parameter parametres nparams")
WHOLE = words_in(
    "all non nonembedding nonembed embedding embeddings emb embed without wo excl excluding with w incl including "
    "active activated precise transformer approx effective nominal trainable backbone encoder dense"
)
EMBEDDED = words_in("embedding embeddings emb embed")
MARKED = words_in("non no without wo excl excluding with w incl including")  # before "embedding"
TOKENS = words_in("tokens token toks tok jetons")
OTHER_DATA = words_in("bases nucleotides residues bytes characters chars words bp")
READ = words_in(
    "training train trained seen processed consumed input pretraining pretrain pre throughput data dataset budget"
)
TRAINING = words_in("train training tr")
HELD_OUT = words_in(
    "eval evaluation val valid validation test testing dev heldout held holdout hold unseen validierung"
)
LOSS = words_in("loss xent nll crossentropy verlust perte")
LOSS_NEUTRAL = words_in(
    "final last end mean avg average nats nat per token out lm language modeling ce cross entropy mlm clm log "
    "likelihood negative masked value metrics metric history results loss the of at"
)
NOT_A_LOSS = words_in(
    "se std sd stdev stderr sem err error var variance max init initial first diff delta gap ratio aux auxiliary z moe "
    "router kl balance balancing load pred predicted fit fitted excess reducible irreducible reg regularization weight "
    "scale count step steps epoch time ci low high lower upper improvement n seed rank scaling"
)
BIT_WORDS = words_in("bits bit bpb bpc bpt bpn byte base character char nucleotide nt")
PERPLEXITY = words_in("ppl perplexity perplexitat perplexite")
COMPUTE = words_in("flops flop flos compute budget isoflop isoflops")
COMPUTE_NEUTRAL = (
    COMPUTE | COUNTING | words_in("training train used pretraining in spent cost 6nd floating point operations")
)
NAMESPACE = re.compile(  # trackers and nested objects: config.n_params, metrics/eval/loss
    r"^(?:params|parameters|hyperparameters|hparams|metrics|config|cfg|args|summary|sys|data|final|results?)[./](?=.)"
)
ERRORS = words_in("se stderr sem standard std err error")


class Header(NamedTuple):
    """A column's name as words, and the unit that stands in it."""

    name: str
    words: tuple[str, ...]
    scale: float  # of the unit; 1 without
    has_unit: bool
    unit: str  # as written


@lru_cache(maxsize=20_000)
def header(name: str) -> Header:
    """Read a name: its words in lower case, and a unit in brackets, after a slash or at its end."""
    text = NAMESPACE.sub("", re.sub(r"_duplicated_\d+$", "", plain(name)))
    for bracket in re.findall(r"[(\[{]([^()\[\]{}]*)[)\]}]", text):
        if (found := magnitude(bracket)) is not None:
            rest = re.sub(r"[(\[{]" + re.escape(bracket) + r"[)\]}]", " ", text)
            return Header(name, _words(rest), found, found != 1, bracket)
    after = re.search(r"(?:\s*/\s*|,\s*|\s+in\s+|_in_)([\w^+× -]+)$", text)
    if after and (found := magnitude(after[1])) not in (None, 1.0):
        return Header(name, _words(text[: after.start()]), found, True, after[1])
    words = _words(text)
    for k in (3, 2, 1):
        tail = " ".join(words[-k:])
        is_unit = tail in MAGNITUDES or re.search("flop|pf", tail)
        if is_unit and len(words) >= k and (found := magnitude(tail)) not in (None, 1.0):
            if len(words) > k:
                return Header(name, words[:-k], found, True, tail)
            if tail.endswith(("day", "days")):
                return Header(name, ("compute",), found, True, tail)
    return Header(name, words, 1.0, False, "")


def _words(text: str) -> tuple[str, ...]:
    text = re.sub(r"(?i)flops?", lambda m: m[0].lower(), text.replace("#", " num "))
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    text = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return tuple(re.findall(r"[^\W_]+", text))


def rank(key: str, one: Header) -> int | None:
    """Return how surely a column is a quantity, by its name: 0 first; None if it is not."""
    return _RANKS[key](one, frozenset(one.words))


def _rank_n(one: Header, words: frozenset[str]) -> int | None:
    if one.name == "N":
        return 0
    if one.words == ("model", "size"):
        return 1
    if one.words in (("n",), ("size",), ("model",), ("models",), ("modellgroße",), ("modellgrosse",)):
        return 3
    rest = words - COUNTING - PARAMETERS
    if words & PARAMETERS:
        if not rest:
            return 1 if "total" in words else 0
    elif one.words[:1] == ("n",) and len(one.words) > 1:
        rest = words - {"n", "no"}
    else:
        return None
    if rest and rest <= WHOLE and not (rest & EMBEDDED and not words & MARKED):
        return 1
    return None


def _rank_d(one: Header, words: frozenset[str]) -> int | None:
    if one.words == ("d",):
        return 0 if "D" in one.name else 3
    allowed = COUNTING | READ | {"so", "far", "cumulative", "final", "last"}
    if words & TOKENS and words <= allowed | TOKENS and one.words[-1] != "throughput":
        return 0
    if one.words in (("data",), ("data", "size"), ("dataset", "size"), ("datengroße",)):
        return 3
    if words & OTHER_DATA and words <= allowed | OTHER_DATA:
        return 4
    return None


def _rank_loss(one: Header, words: frozenset[str]) -> int | None:
    """Held-out losses in nats, then in other units; the same without a word on what is scored; training losses last."""
    core = is_loss(one)
    if core is None or words & NOT_A_LOSS or one.has_unit:
        return None
    if words & TRAINING:
        return None if words & HELD_OUT else 5
    if words & HELD_OUT:
        return 1 if core != "nats" else 0
    if words - LOSS - LOSS_NEUTRAL - PERPLEXITY - BIT_WORDS - {"best", "min", "smoothed", "ema", "l"}:
        return None
    return 3 if core != "nats" else 4 if one.words == ("l",) else 2


def is_loss(one: Header) -> str | None:
    """Return in what a column of losses counts: ``nats``, ``bits``, ``perplexity``; None without losses."""
    words = frozenset(one.words)
    if words & PERPLEXITY:
        return "perplexity" if not words & {"log", "ln", "log2"} else None
    if words & {"bits", "bit", "bpb", "bpc", "bpt", "bpn"}:
        return "bits"
    if words & LOSS or one.words == ("l",) or {"cross", "entropy"} <= words:
        return "nats"
    return None


def _rank_c(one: Header, words: frozenset[str]) -> int | None:
    if one.words == ("c",):
        return 0
    if not words & COMPUTE or words - COMPUTE_NEUTRAL or words & TOKENS:
        return None
    return 1 if words & {"budget", "isoflop", "isoflops", "6nd"} else 0


def _rank_unique(one: Header, words: frozenset[str]) -> int | None:
    if one.words == ("u",):
        return 0
    return 0 if "unique" in words and words - {"unique"} and words <= TOKENS | COUNTING | READ | {"unique"} else None


def _rank_se(one: Header, words: frozenset[str]) -> int | None:
    if not words & {"se", "stderr", "sem"} and not {"standard", "error"} <= words and not {"std", "err"} <= words:
        return None
    return 0 if words - ERRORS <= LOSS | LOSS_NEUTRAL | HELD_OUT | {"l"} else None


_RANKS = {"N": _rank_n, "D": _rank_d, "loss": _rank_loss, "C": _rank_c, "unique": _rank_unique, "se": _rank_se}
