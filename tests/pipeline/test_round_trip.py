"""What a VAE does not hold comes back where nothing was repainted, and hardly where much was."""

import pytest
import torch

from pipeline.models.round_trip import DAMAGED, give_back

SHAPE = (1, 3, 16, 16)
ORIGINAL = torch.linspace(-0.5, 0.5, 3 * 16 * 16).view(SHAPE)
LOSS = 0.02 * torch.sin(torch.arange(3.0 * 16 * 16)).view(SHAPE)
CODED = ORIGINAL - LOSS
EVERYWHERE = torch.ones(1, 1, 16, 16)


def test_an_unchanged_face_comes_back_whole():
    assert torch.allclose(give_back(CODED, CODED, ORIGINAL, EVERYWHERE), ORIGINAL)


@pytest.mark.parametrize(("times", "share"), [(0.1, 0.99), (1, 0.5), (3, 0.1)])
def test_the_more_changed_the_less_comes_back(times, share):
    painted = CODED + times * DAMAGED
    back = give_back(painted, CODED, ORIGINAL, EVERYWHERE) - painted
    assert torch.allclose(back, share * LOSS, atol=1e-4)


def test_only_changes_under_the_mask_count():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8, :] = 1
    painted = CODED.clone()
    painted[..., 8:, :] += 1
    assert torch.allclose(give_back(painted, CODED, ORIGINAL, mask) - painted, LOSS, atol=1e-6)
    assert torch.allclose(give_back(painted, CODED, ORIGINAL, 0 * mask) - painted, LOSS, atol=1e-6)


def test_each_of_a_batch_is_judged_by_its_own_change():
    much, little = CODED + 3 * DAMAGED, CODED + 0.1 * DAMAGED
    both = give_back(
        torch.cat([much, little]),
        CODED.repeat(2, 1, 1, 1),
        ORIGINAL.repeat(2, 1, 1, 1),
        EVERYWHERE.repeat(2, 1, 1, 1),
    )
    for row, painted in enumerate((much, little)):
        alone = give_back(painted, CODED, ORIGINAL, EVERYWHERE)
        torch.testing.assert_close(both[row : row + 1], alone)
