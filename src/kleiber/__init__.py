"""kleiber: a laboratory for the scaling laws of genomic language models.

Reading order: `genome` (reference, haplotypes), `corpus` (what training reads), `tokens`, `model`, `train`, `scaling`
(the laws), `study` (all of it from one file), `report`. Each room imports only from those before it.
"""

from importlib.metadata import version as _version

__version__ = _version("kleiber")
