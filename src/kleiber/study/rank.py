"""One of the processes that train one run of a study together: `kleiber.study.devices` starts them under ``torchrun``.

    python -m torch.distributed.run --nproc-per-node 8 -m kleiber.study.rank OUT UNIT

UNIT counts the trials of `[tune]` first and then the ladder. The stores in OUT are all that is read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from kleiber.study.config import load_study
from kleiber.study.training import train_here


def main(out: Path, index: int) -> None:
    """Train one unit as one of several processes."""
    from kleiber.train.devices import leave

    study = load_study(out / "study.toml")
    unit = [*study.trials(), *study.units()][index]
    train_here(study, out, unit, json.loads((out / "machine.json").read_bytes()), lambda share: None)
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
