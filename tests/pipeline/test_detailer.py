"""The walk on the shipped example, with the embedded profile's real networks.

Their weights may be any: nothing here asks how good a face looks.
"""

import cv2
import numpy as np
import pytest
from example_calls import DAMAGED, FACE, SOUND, inside, levels_apart, plain, recorded, request, same

from pipeline.types import FaceBox, Image

# --- what changes, and what does not ---


def test_the_example_is_found_and_repainted(detailer):
    result = detailer(request())
    (image,) = result.images
    assert any(
        box.x0 < FACE.centre_xy[0] < box.x1 and box.y0 < FACE.centre_xy[1] < box.y1
        for box in result.faces
    )
    assert not np.array_equal(inside(FACE, image), inside(FACE, DAMAGED))
    assert result.kept == 0
    assert list(result.seconds) == ["detect", "cut", "segment", "inpaint", "paste", "upscale"]


def test_denoise_0_changes_no_byte(detailer):
    calls: list[tuple[int, int]] = []
    result = detailer(request(denoise=0, samples=2), lambda *call: calls.append(call))
    assert [same(image, DAMAGED) for image in result.images] == [True, True]
    assert (result.faces, result.kept, calls) == ((), 0, [])


def test_a_picture_without_a_face_comes_back_as_it_is(detailer):
    image = plain(120, 200)
    result = detailer(request(image, samples=3))
    assert [same(got, image) for got in result.images] == [True] * 3
    assert result.faces == ()


def test_the_input_is_never_written_to(quick):
    before = DAMAGED.pixels.copy()
    quick.detail_faces(request(), [FACE])
    assert np.array_equal(DAMAGED.pixels, before)


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


def test_seeds_of_more_than_63_bits_wrap(quick):
    seeded, recorder = recorded(quick)
    seeded.detail_faces(request(seed=2**63 - 1, samples=2, passes="detail"), [FACE])
    assert [job.seed for job in recorder.batches[0]] == [2**63 - 1, 0]


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


def test_filters_leave_the_faces_that_were_asked_for(detailer, couple):
    def found(**changes) -> list[FaceBox]:
        return detailer.find_faces(request(couple, **{"min_face_px": 30.0, **changes}))

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


def test_max_faces_0_gives_the_picture_back(detailer):
    result = detailer(request(max_faces=0, samples=2))
    assert [same(image, DAMAGED) for image in result.images] == [True, True]
