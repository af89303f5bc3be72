"""Several processes that train one network, each on its own batches.

    torchrun --nproc-per-node 2 -m training.inpainter --threads 1 …

On a CPU, two processes with one thread each are faster than one process with two. A single process
needs no group.
"""

import os

import torch
import torch.distributed as dist


def join() -> int:
    """Join the other processes; returns this one's rank. Rank 0 measures and saves."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
        return dist.get_rank()
    return 0


def agree(value: float) -> float:
    """The value of the process with rank 0."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(shared, src=0)
    return shared.item()


def share_gradients(model: torch.nn.Module) -> None:
    """Replace the gradients by their mean over all processes, in place."""
    if not dist.is_initialized():
        return
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    together /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, together.split(sizes), strict=True):
        gradient.copy_(part.view(gradient.shape))
