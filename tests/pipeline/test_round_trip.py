"""What a model changes a little stays, and what its VAE does not hold comes back with it."""

import pytest
import torch

from pipeline.models.sdxl.round_trip import DAMAGED, SURE, finish

SHAPE = (1, 3, 64, 64)
COUNT = 3 * 64 * 64
ORIGINAL = torch.linspace(-0.5, 0.5, COUNT).view(SHAPE)
# In one place, as what a VAE loses of a face is.
LOSS = torch.zeros(SHAPE)
LOSS[..., 20:40, 20:40] = 0.02
# Everywhere alike, as noise is.
NOISE = 0.02 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
EVERYWHERE = torch.ones(1, 1, 64, 64)


def given(change: float, loss: torch.Tensor, mask: torch.Tensor = EVERYWHERE) -> torch.Tensor:
    """What comes of a crop that the model changes so much everywhere."""
    coded = ORIGINAL - loss
    return finish(coded + change, coded, ORIGINAL, mask)


def middle(values: torch.Tensor) -> torch.Tensor:
    return values[..., 25:35, 25:35]


@pytest.mark.parametrize("loss", [LOSS, NOISE])
def test_an_unchanged_face_comes_back_whole(loss):
    assert torch.allclose(given(0.0, loss), ORIGINAL, atol=1e-6)


@pytest.mark.parametrize(("times", "share"), [(0.2, 0.04), (1, 0.5), (3, 0.9), (10, 0.99)])
def test_a_change_below_the_models_error_is_hardly_made(times, share):
    made = given(times * SURE, 0 * LOSS) - ORIGINAL
    assert torch.allclose(made, torch.full(SHAPE, share * times * SURE), rtol=0.05)


@pytest.mark.parametrize(("times", "share"), [(0.1, 0.99), (1, 0.55), (3, 0.11)])
def test_the_more_changed_the_less_comes_back(times, share):
    change = times * DAMAGED
    made = change**2 / (change**2 + SURE**2)
    back = given(change, LOSS) - (ORIGINAL - LOSS) - made * change
    torch.testing.assert_close(middle(back), share * middle(LOSS), rtol=0.02, atol=0)


def test_only_changes_under_the_mask_count():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :32, :] = 1
    coded = ORIGINAL - NOISE
    painted = coded.clone()
    painted[..., 32:, :] += 0.1
    found = finish(painted, coded, ORIGINAL, mask)
    torch.testing.assert_close(found[..., :32, :], ORIGINAL[..., :32, :])


def test_each_of_a_batch_is_judged_by_its_own_change():
    much, little = 3 * DAMAGED, 0.1 * DAMAGED
    coded = ORIGINAL - NOISE
    both = finish(
        torch.cat([coded + much, coded + little]),
        coded.repeat(2, 1, 1, 1),
        ORIGINAL.repeat(2, 1, 1, 1),
        EVERYWHERE.repeat(2, 1, 1, 1),
    )
    for row, change in enumerate((much, little)):
        torch.testing.assert_close(both[row : row + 1], given(change, NOISE))
