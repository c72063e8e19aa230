"""One process, or several under ``torchrun``: which rows are whose, and how they agree.

Every process computes its share of the rows of each batch; gradients are averaged by DDP, or reduced and sharded by
FSDP2 (Zhao et al. 2023, arXiv:2304.11277), whose parameters live in pieces. What a process decides alone by its clock
or by a signal (to save, to stop) is decided together here, or the others would wait for it for ever. Rejected:
Accelerate, which is these sixty lines and two thousand more.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kleiber.errors import ConfigError

__all__ = ["Devices", "leave", "whole"]


class Devices:
    """The processes of one run.

    Attributes
    ----------
    rank, world
        Which process this is, and of how many.
    device
        Where it computes.
    records
        Whether a step can be recorded and replayed there.
    reads_every
        Steps between two readings of the losses: each makes a device that works on its own wait for the host.
    """

    def __init__(self, shard: bool = False):
        self.world, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.shard = shard
        has_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if has_gpu else torch.device("cpu")
        if has_gpu:
            torch.cuda.set_device(self.device)
        self.records, self.reads_every = has_gpu, 8 if has_gpu else 1
        if self.is_distributed and not dist.is_initialized():
            dist.init_process_group("nccl" if has_gpu else "gloo")

    @property
    def is_distributed(self) -> bool:
        """Whether there are other processes, or parameters to shard."""
        return self.world > 1 or self.shard

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def attention(self, length: int) -> str:
        """Return how attention is usually fastest here for rows of `length` tokens.

        A study measures it instead.
        """
        if self.device.type == "cuda":
            return "sdpa" if length <= 512 else "flex"
        return "matmul" if length <= 512 else "sdpa"

    def rows(self, batch: int) -> slice:
        """Return the rows of a batch that this process computes.

        Raises
        ------
        ConfigError
            When the batch does not divide by the processes.
        """
        if batch % self.world:
            raise ConfigError(
                f"[train] batch = {batch} does not divide by {self.world} processes; each computes a share."
            )
        share = batch // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    def wrap(self, model: Any) -> nn.Module:
        """Return what is called for the forward pass; sharding replaces the model's parameters in place."""
        if self.shard:
            from torch.distributed.fsdp import fully_shard

            # which matters to whoever changes logits in place
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
            for block in model.bert.encoder.layer:
                fully_shard(block)
            return fully_shard(model)
        if self.world > 1:
            return nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)  # constants, alike everywhere
        return model

    def reshard(self, model: nn.Module) -> None:
        """Let the parameters be pieces again.

        After a forward pass alone some are still whole, and what is written into those is lost.
        """
        if self.shard:
            from torch.distributed.fsdp import FSDPModule

            for module in model.modules():
                if isinstance(module, FSDPModule):
                    module.reshard()

    def agree(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor, of any shape, over the processes."""
        if self.world > 1:
            values = values.to(self.device)  # NCCL takes no others
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.world > 1:
            dist.barrier()


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor that may be sharded as one, of the same shape, on every process."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def leave() -> None:
    """End this process with status 0 when it is one of several; return when it is alone.

    Nothing is left for the interpreter to do, and its end is not safe here: sharded parameters keep Gloo's threads
    alive, one of them may not yet have let go of the last tensors, and what lets go of a tensor while Python or the
    process group is being taken down ends the process by a signal. On a busy machine one in eight runs under FSDP2
    failed so, with all its work done. So all wait for each other, and then nothing is taken down.
    """
    if dist.is_initialized():
        dist.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
