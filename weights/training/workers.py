"""Several processes that train one network, each on batches of its own.

    torchrun --nproc-per-node 2 -m weights.training.inpainter --threads 1 …

On a CPU two processes of one thread do more than one process of two. A single one joins nobody.
"""

import os

import torch
import torch.distributed as dist


def join() -> int:
    """Meet the other processes; this one's number, 0 for the one that measures and saves."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
        return dist.get_rank()
    return 0


def agree(value: float) -> float:
    """Process 0's value."""
    if not dist.is_initialized():
        return value
    told = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(told, src=0)
    return told.item()


def share_gradients(model: torch.nn.Module) -> None:
    """Give every process the mean of all processes' gradients, in place."""
    if not dist.is_initialized():
        return
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    together /= dist.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, together.split(sizes), strict=True):
        gradient.copy_(part.view(gradient.shape))
