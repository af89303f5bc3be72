"""Weights on the host: copies in few buffers, of the sizes that torch's rounding leaves alone."""

from itertools import pairwise

import pytest
import torch

from evaluation.bench.random_weights import random_networks
from pipeline.config_reading import read_profile
from pipeline.models.sdxl.memory import NetworkMemory
from pipeline.models.sdxl.packing import BUFFER_BYTES, packed, plan
from weights.manifest import DIMENSIONS, PACKAGE_DIR

GIB = 2**30


def rounded(size_bytes: int) -> int:
    """As torch rounds a page-locked allocation."""
    return 1 << (size_bytes - 1).bit_length()


def test_copies_have_values_types_and_formats():
    conv = torch.nn.Conv2d(6, 5, 3).to(memory_format=torch.channels_last)
    tensors = {
        "conv": conv.weight.data,
        "half": torch.arange(7).half(),
        "number": torch.tensor(3),
        "nothing": torch.empty(0),
        "brain": torch.arange(12).bfloat16().reshape(3, 4).T,
        "repeated": torch.ones(1).expand(4),
    }
    wanted = dict(tensors)
    copies = dict(packed(tensors, page_locked=False))
    assert tensors == {}
    assert copies.keys() == wanted.keys()
    for name, copy in copies.items():
        assert torch.equal(copy, wanted[name])
        assert copy.dtype == wanted[name].dtype
        assert copy.data_ptr() % copy.element_size() == 0
    assert copies["conv"].is_contiguous(memory_format=torch.channels_last)
    assert len({copy.untyped_storage().data_ptr() for copy in copies.values()}) == 1


def test_buffers_overlap_nowhere_and_hold_everything():
    generator = torch.Generator().manual_seed(0)
    most = BUFFER_BYTES // 4
    sizes = [*torch.randint(0, most, (200,), generator=generator).tolist(), 3 * BUFFER_BYTES]
    buffers = plan(sizes)
    assert sorted(index for buffer in buffers for index, _ in buffer.places) == list(range(201))
    for buffer in buffers:
        assert buffer.size_bytes == rounded(buffer.size_bytes)
        ends = [(begin, begin + sizes[index]) for index, begin in buffer.places]
        assert ends == sorted(ends)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
        assert ends[-1][1] <= buffer.size_bytes


def test_networks_that_wait_share_their_buffers():
    networks = [torch.nn.Linear(3, 2), torch.nn.BatchNorm2d(4)]
    NetworkMemory(networks, torch.device("meta"), one_at_a_time=True)
    tensors = [t for network in networks for t in network.state_dict().values()]
    assert len({t.untyped_storage().data_ptr() for t in tensors}) == 1
    assert isinstance(networks[0].weight, torch.nn.Parameter)


@pytest.mark.slow
def test_sdxl_takes_hardly_more_than_its_weights():
    """The figures in docs/performance.md."""
    profile = read_profile(PACKAGE_DIR / "sdxl")
    networks = random_networks(profile, DIMENSIONS / "sdxl", PACKAGE_DIR / "tiny", "meta").modules
    tensors = [t for n in networks for t in (*n.parameters(), *n.buffers())]
    sizes = [t.numel() * t.element_size() for t in tensors]
    assert round(sum(sizes) / GIB, 2) == 6.46
    assert round(sum(map(rounded, sizes)) / GIB, 1) == 8.6
    buffers = plan(sizes)
    assert [buffer.size_bytes for buffer in buffers] == [BUFFER_BYTES] * 26
