"""The walk on the shipped example, with the embedded profile's real networks.

Their weights may be any: nothing here asks how good a face looks.
"""

import cv2
import numpy as np
import pytest
import torch
from detail_requests import asking
from example_calls import (
    DAMAGED,
    ELSEWHERE,
    FACE,
    SOUND,
    inside,
    levels_apart,
    plain,
    recorded,
    request,
    same,
)

from pipeline.progress import Progress
from pipeline.request import Selection
from pipeline.types import FaceBox, Image, InpaintJob

# --- what changes, and what does not ---


def test_the_example_is_found_and_repainted(detailer):
    result = detailer(request())
    (image,) = result.images
    assert any(
        box.x0 < FACE.centre_xy[0] < box.x1 and box.y0 < FACE.centre_xy[1] < box.y1
        for box in result.faces
    )
    assert not np.array_equal(inside(FACE, image), inside(FACE, DAMAGED))
    assert result.unchanged == 0
    assert list(result.seconds) == [
        "detect",
        "cut",
        "segment",
        "inpaint",
        "paste",
        "grain",
        "upscale",
    ]


def test_denoise_0_changes_no_byte(detailer):
    told: list[Progress] = []
    result = detailer(request(denoise=0, samples=2), told.append)
    assert [same(image, DAMAGED) for image in result.images] == [True, True]
    assert (result.faces, result.unchanged, result.skipped) == ((), 0, 1)
    assert told == [Progress("detecting"), Progress("found", faces=1)]


def test_a_picture_without_a_face_comes_back_as_it_is(detailer):
    image = plain(120, 200)
    result = detailer(request(image, samples=3))
    assert [same(got, image) for got in result.images] == [True] * 3
    assert result.faces == ()


def test_the_input_is_never_written_to(quick):
    before = DAMAGED.pixels.copy()
    quick.detail_faces(request(), [FACE])
    assert np.array_equal(DAMAGED.pixels, before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hundredths", "below", "above"),
    [(11, 10, 12), (22, 21, 24), (23, 21, 24), (41, 40, 42), (81, 80, 82)],
)
def test_the_detail_pass_changes_a_face_as_much_as_it_does_at_the_next_denoise(
    detailer, hundredths, below, above
):
    def change(hundredths: int) -> float:
        asked = request(denoise=hundredths / 100, passes="detail", num_inference_steps=20)
        (image,) = detailer.detail_faces(asked, [FACE]).images
        return float(np.abs(inside(FACE, image).astype(int) - inside(FACE, DAMAGED)).mean())

    around = [change(below), change(above)]
    assert min(around) * 0.995 <= change(hundredths) <= max(around) * 1.005


# --- samples and seeds ---


def test_the_same_request_gives_the_same_bytes(quick):
    first, again = (quick.detail_faces(request(), [FACE]).images[0] for _ in range(2))
    assert same(first, again)


def test_sample_i_uses_seed_plus_i(quick):
    """Up to two levels: batches of other sizes round differently, and two passes add up."""
    two = quick.detail_faces(request(samples=2, seed=41), [FACE]).images
    (next_seed,) = quick.detail_faces(request(seed=42), [FACE]).images
    assert levels_apart(two[1], next_seed) <= 2
    assert levels_apart(two[0], next_seed) > 2


def test_all_bits_of_a_seed_count_and_beyond_63_they_wrap(quick):
    def repainted(seed: int, samples: int = 1) -> Image:
        asked = request(seed=seed, samples=samples, passes="detail")
        return quick.detail_faces(asked, [FACE]).images[-1]

    assert levels_apart(repainted(5), repainted(5 + 2**32)) > 2
    assert levels_apart(repainted(2**63 - 1, samples=2), repainted(0)) <= 2
    assert levels_apart(repainted(2**63 + 5), repainted(5)) == 0


def test_every_sample_and_pass_starts_from_noise_of_its_own(quick):
    seeded, recorder = recorded(quick)
    seeded.detail_faces(request(seed=41, samples=2), [FACE])
    seeded.detail_faces(request(seed=42), [FACE])
    seeded.detail_faces(request(seed=42, passes="detail"), [FACE])
    outline, detail, other_outline, other_detail, detail_alone = (
        [noise_of(job) for job in batch] for batch in recorder.batches
    )
    assert torch.equal(outline[1], other_outline[0])
    assert torch.equal(detail[1], other_detail[0])
    assert torch.equal(detail[1], detail_alone[0])
    distinct = torch.stack([*outline, *detail])
    assert (torch.corrcoef(distinct) - torch.eye(4)).abs().max() < 0.05


def noise_of(job: InpaintJob) -> torch.Tensor:
    return torch.randn(10_000, generator=torch.Generator().manual_seed(job.seed))


@pytest.mark.parametrize("others", [[ELSEWHERE, FACE], [FACE, ELSEWHERE]])
def test_a_face_does_not_depend_on_the_other_faces(quick, others):
    """Up to two levels: batches of other sizes round differently."""
    (alone,) = quick.detail_faces(request(), [FACE]).images
    (together,) = quick.detail_faces(request(), others).images
    apart = np.abs(inside(FACE, alone).astype(int) - inside(FACE, together))
    assert apart.max() <= 2
    assert not np.array_equal(inside(ELSEWHERE, together), inside(ELSEWHERE, DAMAGED))


# --- sizes and alpha ---


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_pictures_and_alpha_are_enlarged(quick, factor):
    image = plain(51, 64)
    alpha = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (51, 1))
    result = quick.detail_faces(request(image, alpha=alpha, upscale=factor, samples=2), [])
    shapes = [got.pixels.shape for got in result.images]
    assert shapes == [(51 * factor, 64 * factor, 3)] * 2
    assert result.alpha is not None
    assert result.alpha.shape == (51 * factor, 64 * factor)
    small = cv2.resize(result.alpha, (64, 51), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - alpha).max() <= 2


def test_without_upscaling_alpha_keeps_its_bytes_and_opaque_stays_opaque(quick):
    alpha = np.random.default_rng(0).integers(0, 255, (51, 64), dtype=np.uint8)
    image = plain(51, 64)
    assert np.array_equal(quick.detail_faces(request(image, alpha=alpha), []).alpha, alpha)
    assert quick.detail_faces(request(image), []).alpha is None


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5000), (5000, 3), (16, 16)])
def test_odd_pictures_go_through(quick, height, width):
    image = plain(height, width)
    result = quick(request(image, min_face_px=0.0, detection_threshold=0.05, upscale=2))
    assert result.images[0].pixels.shape == (2 * height, 2 * width, 3)
    whole = FaceBox(0, 0, width, height, 1.0)
    painted = quick.detail_faces(request(image, num_inference_steps=1), [whole])
    assert painted.images[0].pixels.shape == image.pixels.shape
    assert painted.faces == (whole,)


# --- which faces ---


@pytest.fixture(scope="module")
def couple() -> Image:
    """The example's face twice: at half size on the left, as it is on the right."""
    face = SOUND.pixels[:256, 96:352]
    half = cv2.resize(face, (128, 128), interpolation=cv2.INTER_AREA)
    picture = np.full((256, 448, 3), 128, np.uint8)
    picture[64:192, 32:160], picture[:, 192:] = half, face
    return Image(picture)


@pytest.mark.slow
def test_filters_leave_the_faces_that_were_asked_for(detailer, couple):
    def found(**changes) -> list[FaceBox]:
        return detailer.find_faces(couple, Selection(**{"min_face_px": 30.0, **changes}))

    both = found()
    assert len(both) == 2
    large, small = both
    assert large.width_px > 1.5 * small.width_px
    assert large.x0 > 192 > small.x1
    assert found(face_order="left-right") == [small, large]
    assert found(face_order="top-bottom") == sorted(both, key=lambda face: face.centre_xy[1])
    assert found(face_order="score") == sorted(both, key=lambda face: -face.score)
    assert found(max_faces=1) == [large]
    assert found(max_faces=0) == []
    shorter_px = min(small.width_px, small.height_px)
    assert found(min_face_px=shorter_px) == both
    assert found(min_face_px=shorter_px + 1) == [large]
    assert found(detection_threshold=max(large.score, small.score) + 1e-4) == []


@pytest.mark.slow
def test_the_budget_pays_for_the_largest_and_the_others_are_named(quick, couple):
    """At denoise 0 nothing is repainted, but all is found."""

    def rejected(**changes) -> list[tuple[FaceBox, str]]:
        asked = asking(couple, "", 0.0, min_face_px=30.0, **changes)
        return [(found.box, found.rejected) for found in quick(asked).rejected]

    large, small = quick.find_faces(couple, Selection(min_face_px=30.0))
    unlimited = rejected()
    assert {reason for _, reason in unlimited} <= {"score", "size"}
    assert rejected(affordable=2) == unlimited
    assert (small, "budget") in rejected(affordable=1)
    assert {(large, "budget"), (small, "budget")} <= set(rejected(affordable=0))
    assert {(large, "budget"), (small, "count")} <= set(rejected(affordable=0, max_faces=1))


@pytest.mark.slow
def test_max_faces_0_gives_the_picture_back(detailer):
    result = detailer(request(max_faces=0, samples=2))
    assert "count" in {found.rejected for found in result.rejected}
    assert [same(image, DAMAGED) for image in result.images] == [True, True]
