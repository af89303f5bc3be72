"""The walk on the shipped example, with the embedded profile's real networks.

Their weights may be any: nothing here asks how good a face looks.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from repainters import rebuilt

from pipeline.config import InpainterConfig, StepRule
from pipeline.detailer import FaceDetailer
from pipeline.errors import Stopped
from pipeline.models.sdxl import SdxlInpainter
from pipeline.request import DetailRequest, DetailResult
from pipeline.stages import Inpainter, OnStep, ShouldStop
from pipeline.types import FaceBox, Image, InpaintJob

EXAMPLES = Path(__file__).parents[2] / "examples"
FACE = FaceBox(177, 68, 269, 158, 0.9)
# Not faces, but the walk takes a caller's word for it. The second overlaps the first.
ELSEWHERE, OVERLAPPING = FaceBox(40, 300, 110, 380, 0.5), FaceBox(225, 100, 320, 190, 0.4)
STEPS = 2


def read(name: str) -> Image:
    pixels = cv2.cvtColor(cv2.imread(str(EXAMPLES / name)), cv2.COLOR_BGR2RGB)
    pixels.flags.writeable = False
    return Image(pixels)


SOUND, DAMAGED = read("astronaut.png"), read("astronaut-damaged.jpg")


def request(image: Image = DAMAGED, **changes) -> DetailRequest:
    values = {"prompt": "detailed face", "denoise": 0.5, "num_inference_steps": STEPS}
    return DetailRequest(image, **{**values, **changes})


def plain(height_px: int, width_px: int) -> Image:
    """A smooth gradient: a picture without a face."""
    y, x = np.mgrid[:height_px, :width_px]
    return Image((np.dstack([x, y, x + y]) * 200 / (x + y + 1).max()).astype(np.uint8))


def same(a: Image, b: Image) -> bool:
    return np.array_equal(a.pixels, b.pixels)


def levels_apart(a: Image, b: Image) -> int:
    return int(np.abs(a.pixels.astype(int) - b.pixels).max())


def inside(box: FaceBox, image: Image) -> np.ndarray:
    return image.pixels[round(box.y0) : round(box.y1), round(box.x0) : round(box.x1)]


class Recorder:
    """Passes jobs on to a real inpainter and remembers them; `route` picks one for each batch."""

    def __init__(self, route: Callable[[int], Inpainter]) -> None:
        self._route = route
        self.batches: list[Sequence[InpaintJob]] = []

    def inpaint(
        self, jobs: Sequence[InpaintJob], on_step: OnStep, should_stop: ShouldStop
    ) -> list[Image | None]:
        self.batches.append(jobs)
        return self._route(len(self.batches)).inpaint(jobs, on_step, should_stop)


def recorded(detailer: FaceDetailer) -> tuple[FaceDetailer, Recorder]:
    recorder = Recorder(lambda _batch: detailer._inpainter)
    return rebuilt(detailer, recorder), recorder


def configured(tiny: SdxlInpainter, config: InpainterConfig) -> SdxlInpainter:
    return SdxlInpainter(tiny._unet, tiny._vae, tiny._text, tiny._scheduler_config, config)


@pytest.fixture(scope="module")
def quick(detailer) -> FaceDetailer:
    """The embedded profile at a small work size, all steps, and strengths that any weights show;
    not mirrored, as made-up faces are not to be.
    """
    profile = detailer.profile
    outline = replace(profile.outline, work_px=(64,), strength=1.0)
    detail = replace(profile.detail, work_px=(128,), strength=0.6)
    config = replace(profile.inpainter, steps=1.0, mirrored=False)
    small = replace(profile, outline=outline, detail=detail, inpainter=config)
    return rebuilt(detailer, configured(detailer._inpainter, config), small)


@pytest.fixture(scope="module")
def by_rule(quick):
    """The detailer under another step rule."""

    def make(rule: StepRule) -> FaceDetailer:
        config = replace(quick.profile.inpainter, step_rule=rule)
        inpainter = configured(quick._inpainter, config)
        return rebuilt(quick, inpainter, replace(quick.profile, inpainter=config))

    return make


@pytest.fixture(scope="module")
def poisoned(detailer) -> SdxlInpainter:
    """An inpainter whose UNet answers NaN."""
    tiny = detailer._inpainter
    unet = type(tiny._unet).from_config(tiny._unet.config).eval().requires_grad_(False)
    torch.nn.init.constant_(unet.conv_out.bias, float("nan"))
    return SdxlInpainter(
        unet, tiny._vae, tiny._text, tiny._scheduler_config, detailer.profile.inpainter
    )


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


# --- prompts ---


def test_each_face_gets_its_own_prompts_in_the_faces_order(quick):
    prompted, recorder = recorded(quick)
    asked = request(prompt="a man [SEP] a girl", negative_prompt="blur", passes="detail")
    prompted.detail_faces(asked, [FACE, ELSEWHERE])
    (jobs,) = recorder.batches
    assert [(job.prompt, job.negative_prompt) for job in jobs] == [
        ("a man", "blur"),
        ("a girl", "blur"),
    ]


def test_a_skipped_face_keeps_its_bytes(quick):
    result = quick.detail_faces(request(prompt="[SKIP] [SEP] a face"), [FACE, ELSEWHERE])
    (image,) = result.images
    assert result.faces == (ELSEWHERE,)
    assert np.array_equal(inside(FACE, image), inside(FACE, DAMAGED))
    assert not np.array_equal(inside(ELSEWHERE, image), inside(ELSEWHERE, DAMAGED))


def test_when_all_faces_are_skipped_the_picture_comes_back(quick):
    result = quick.detail_faces(request(prompt="[SKIP]"), [FACE, ELSEWHERE])
    assert same(result.images[0], DAMAGED)
    assert result.faces == ()


# --- passes and progress ---


def progress_of(detailer: FaceDetailer, asked: DetailRequest, *faces: FaceBox) -> list[int]:
    """What the bar showed, checked on the way: it never falls, and ends full."""
    calls: list[tuple[int, int]] = []
    detailer.detail_faces(asked, faces, lambda *call: calls.append(call))
    done = [call[0] for call in calls]
    assert done == list(range(1, len(done) + 1))
    assert {total for _, total in calls} == {len(done)}
    return done


@pytest.mark.parametrize(
    ("image", "passes", "runs"),
    [
        (SOUND, "both", 2),
        (SOUND, "detail", 1),
        (SOUND, "auto", 1),
        (DAMAGED, "auto", 2),
        (DAMAGED, "detail", 1),
    ],
)
def test_passes_run_what_they_say(quick, image, passes, runs):
    assert len(progress_of(quick, request(image, passes=passes), FACE)) == STEPS * runs


def test_a_large_sharp_face_starts_in_less_noise_unless_told_not_to(detailer):
    large = Image(cv2.resize(SOUND.pixels, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_CUBIC))
    face = FaceBox(*(2.5 * side for side in (FACE.x0, FACE.y0, FACE.x1, FACE.y1)), score=0.9)
    walked, recorder = recorded(detailer)
    for keeps in (True, False):
        walked.detail_faces(request(large, keep_healthy=keeps, passes="detail"), [face])
    kept, free = (batch[0].strength for batch in recorder.batches)
    assert 0.5 <= kept / free < 0.9


def test_the_outline_pass_is_the_first_and_the_stronger(detailer):
    walked, recorder = recorded(detailer)
    walked.detail_faces(request(denoise=0.5), [FACE])
    profile = detailer.profile
    strengths = [batch[0].strength for batch in recorder.batches]
    assert strengths == [profile.outline.strength * 0.5, profile.detail.strength * 0.5]
    sizes = [batch[0].image.width_px for batch in recorder.batches]
    assert sizes[0] <= sizes[1] == profile.detail.work_px[-1]


def test_all_faces_and_samples_of_a_pass_are_one_batch(quick):
    walked, recorder = recorded(quick)
    asked = request(samples=2, num_inference_steps=1)
    done = progress_of(walked, asked, FACE, ELSEWHERE)
    assert len(done) == 1 * 2 * 2 * 2
    assert [len(batch) for batch in recorder.batches] == [4, 4]


def test_progress_ends_full_also_when_fewer_steps_are_executed(by_rule):
    asked = request(num_inference_steps=6, denoise=0.5)
    outline, detail = int(6 * 0.5), int(6 * 0.5 * by_rule("all").profile.detail.strength)
    assert len(progress_of(by_rule("diffusers"), asked, FACE)) == outline + detail
    assert len(progress_of(by_rule("all"), asked, FACE)) == 12


def test_a_pass_without_strength_is_left_out(quick):
    outline = replace(quick.profile.outline, strength=0.0)
    walked = rebuilt(quick, quick._inpainter, replace(quick.profile, outline=outline))
    assert len(progress_of(walked, request(), FACE)) == STEPS


def test_stops_wherever_it_is_asked_to(quick):
    def run(stop_at: int) -> tuple[DetailResult | None, int]:
        questions: list[None] = []

        def should_stop() -> bool:
            questions.append(None)
            return len(questions) >= stop_at

        try:
            asked = request(num_inference_steps=1)
            return quick.detail_faces(asked, [FACE], should_stop=should_stop), len(questions)
        except Stopped:
            return None, len(questions)

    finished, questions = run(1000)
    assert finished is not None
    assert questions == 4 + 4 + 1 + 2  # stages of each pass, the upscale, a step of each pass
    for stop_at in range(1, questions + 1):
        assert run(stop_at) == (None, stop_at)
    again, _ = run(1000)
    assert again is not None
    assert same(again.images[0], finished.images[0])
    with pytest.raises(Stopped):
        quick(request(), should_stop=lambda: True)


# --- several at a time ---


def test_overlapping_faces_are_repainted_one_after_the_other(quick):
    walked, recorder = recorded(quick)
    together = walked.detail_faces(request(), [FACE, OVERLAPPING])
    assert [len(batch) for batch in recorder.batches] == [1, 1, 1, 1]
    first = quick.detail_faces(request(), [FACE])
    second = quick.detail_faces(request(first.images[0]), [OVERLAPPING])
    assert same(together.images[0], second.images[0])
    assert not same(together.images[0], first.images[0])


def test_two_threads_at_once_get_what_they_get_one_after_the_other(quick):
    """Up to two levels: their steps share UNet calls of another batch size."""
    requests = [request(), request(SOUND, seed=3, guidance_scale=9.0)]

    def run(asked: DetailRequest) -> Image:
        return quick.detail_faces(asked, [FACE]).images[0]

    alone = [run(asked) for asked in requests]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(run, requests))
    assert [levels_apart(*pair) <= 2 for pair in zip(alone, together, strict=True)] == [True] * 2


# --- answers that are not finite ---


def test_a_face_without_a_finite_answer_is_kept_and_reported(quick, poisoned):
    broken = rebuilt(quick, poisoned)
    result = broken.detail_faces(request(samples=2), [FACE, ELSEWHERE])
    assert [same(image, DAMAGED) for image in result.images] == [True, True]
    assert result.faces == (FACE, ELSEWHERE)
    assert result.kept == 4  # two faces of two samples


def test_a_face_that_one_pass_repainted_counts_as_repainted(quick, poisoned):
    route = Recorder(lambda batch: poisoned if batch == 1 else quick._inpainter)
    result = rebuilt(quick, route).detail_faces(request(), [FACE])
    assert result.kept == 0
    (image,) = result.images
    (detail,) = quick.detail_faces(request(passes="detail"), [FACE]).images
    assert same(image, detail)
