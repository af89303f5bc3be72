"""How faces are repainted: prompts, passes, progress, several at a time, and unusable answers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from example_calls import (
    DAMAGED,
    ELSEWHERE,
    FACE,
    OVERLAPPING,
    SOUND,
    STEPS,
    Recorder,
    configured,
    inside,
    levels_apart,
    recorded,
    request,
    same,
    softened,
)
from repainters import rebuilt

from pipeline.config_inpainter import StepRule
from pipeline.detailer import FaceDetailer
from pipeline.errors import ModelFailed, Stopped
from pipeline.models.sdxl.inpainter import SdxlInpainter
from pipeline.progress import Progress
from pipeline.request import DetailRequest, DetailResult
from pipeline.types import FaceBox, Image


@pytest.fixture(scope="module")
def by_rule(quick):
    """The detailer under another step rule."""

    def make(rule: StepRule) -> FaceDetailer:
        config = replace(quick.profile.inpainter, step_rule=rule, spacing="linspace")
        inpainter = configured(quick._inpainter, config)
        return rebuilt(quick, inpainter, replace(quick.profile, inpainter=config))

    return make


@pytest.fixture(scope="module")
def poisoned(detailer) -> SdxlInpainter:
    """An inpainter whose UNet answers NaN."""
    tiny = detailer._inpainter
    unet = type(tiny._unet).from_config(tiny._unet.config).eval().requires_grad_(False)
    torch.nn.init.constant_(unet.conv_out.bias, float("nan"))
    return SdxlInpainter(unet, tiny._vae, tiny._text, tiny._noise_model, detailer.profile.inpainter)


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


@pytest.mark.parametrize("gap_px", [-20, 0, 6])
def test_no_neighbours_paint_reaches_a_skipped_face(quick, gap_px):
    neighbour = FaceBox(FACE.x1 + gap_px, 70, FACE.x1 + gap_px + 90, 170, 0.5)
    asked = request(prompt="[skip] [SEP] a face", face_order="left-right", denoise=0.9)
    result = quick.detail_faces(asked, [FACE, neighbour])
    (image,) = result.images
    # Where both boxes overlap, the nearer half is the neighbour's.
    mine = FaceBox(FACE.x0, FACE.y0, min(FACE.x1, FACE.x1 + gap_px), FACE.y1, 1.0)
    assert np.array_equal(inside(mine, image), inside(mine, DAMAGED))
    assert not np.array_equal(inside(neighbour, image), inside(neighbour, DAMAGED))


def test_when_all_faces_are_skipped_the_picture_comes_back(quick):
    result = quick.detail_faces(request(prompt="[SKIP]"), [FACE, ELSEWHERE])
    assert same(result.images[0], DAMAGED)
    assert result.faces == ()


# --- passes and progress ---


def progress_of(detailer: FaceDetailer, asked: DetailRequest, *faces: FaceBox) -> list[int]:
    """What the bar showed, checked on the way: it never falls, and ends full."""
    steps = [told for told in told_by(detailer, asked, *faces) if told.step is not None]
    done = [told.done for told in steps]
    assert done == list(range(1, len(done) + 1))
    assert {told.total for told in steps} == {len(done)}
    return done


def told_by(detailer: FaceDetailer, asked: DetailRequest, *faces: FaceBox) -> list[Progress]:
    calls: list[Progress] = []
    detailer.detail_faces(asked, faces, calls.append)
    return calls


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


@pytest.mark.slow
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


def test_each_step_says_whose_it_is_and_of_how_many(quick):
    asked = request(samples=2, prompt="[SKIP] [SEP] a man", num_inference_steps=2, upscale=2)
    told = told_by(quick, asked, FACE, ELSEWHERE)
    stages = [progress.stage for progress in told if progress.stage != "upscaling"]
    assert stages == ["found", *["outline"] * 4, *["detail"] * 4]
    assert {progress.faces for progress in told} == {2}
    steps = [progress.step for progress in told if progress.stage == "detail"]
    assert [(step.number, step.count) for step in steps if step.sample == 2] == [(1, 2), (2, 2)]
    assert {step.face for step in steps} == {2}, "the first is skipped, and keeps its number"


@pytest.mark.parametrize("upscale", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_share_of_all_work_grows_while_the_picture_is_enlarged_too(quick, upscale):
    told = told_by(quick, request(samples=2, upscale=upscale), FACE)
    shares = [progress.share for progress in told]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert 0.85 < shares[-1] < 1
    enlarging = [progress.share for progress in told if progress.stage == "upscaling"]
    assert len(set(enlarging)) >= {1: 0, 2: 3, 4: 9}[upscale]


def test_the_work_ends_soon_while_the_picture_is_enlarged(quick):
    told = []

    def should_stop() -> bool:
        return sum(progress.stage == "upscaling" for progress in told) > 1

    with pytest.raises(Stopped):
        quick.detail_faces(request(upscale=4), [FACE], told.append, should_stop)
    assert told[-1].share < 0.9


def test_a_pass_without_strength_is_left_out(quick):
    outline = replace(quick.profile.outline, strength=0.0)
    walked = rebuilt(quick, quick._inpainter, replace(quick.profile, outline=outline))
    assert len(progress_of(walked, request(), FACE)) == STEPS


@pytest.mark.slow
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
    # Of each pass: stages; masks, two encodings, a step, two decodings. Then grain and upscale.
    assert questions == 2 * (4 + 6) + 1 + 1
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
    # Without grain, whose measure is the input's of each walk.
    asked = request(softened(SOUND))
    together = walked.detail_faces(asked, [FACE, OVERLAPPING])
    assert [len(batch) for batch in recorder.batches] == [1, 1, 1, 1]
    first = quick.detail_faces(asked, [FACE])
    second = quick.detail_faces(replace(asked, image=first.images[0]), [OVERLAPPING])
    assert same(together.images[0], second.images[0])
    assert not same(together.images[0], first.images[0])


@pytest.mark.slow
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


@pytest.mark.slow
def test_where_no_face_gets_a_finite_answer_the_model_has_failed(quick, poisoned):
    broken = rebuilt(quick, poisoned)
    for asked in (request(samples=2), request(passes="detail")):
        with pytest.raises(ModelFailed, match="no face got a usable repaint"):
            broken.detail_faces(asked, [FACE, ELSEWHERE])


def test_without_a_face_to_repaint_no_model_can_fail(quick, poisoned):
    broken = rebuilt(quick, poisoned)
    for asked, faces in (
        (request(), []),
        (request(denoise=0), [FACE]),
        (request(prompt="[SKIP]"), [FACE]),
    ):
        result = broken.detail_faces(asked, faces)
        assert same(result.images[0], DAMAGED)
        assert result.unchanged == 0


def test_faces_without_a_finite_answer_stay_as_they_were_and_are_counted(quick, poisoned):
    """The two faces overlap, so each is a batch of its own: the first of both passes."""
    route = Recorder(lambda batch: poisoned if batch <= 2 else quick._inpainter)
    result = rebuilt(quick, route).detail_faces(request(samples=2), [FACE, OVERLAPPING])
    assert result.unchanged == 2  # one face of two samples
    assert result.faces == (FACE, OVERLAPPING)
    second = quick.detail_faces(request(samples=2), [OVERLAPPING])
    # Nor do the other's steps count.
    assert result.report.steps == second.report.steps > 0
    # The samples' crops are encoded one by one here and once for both there, which may round apart.
    pairs = zip(result.images, second.images, strict=True)
    assert max(levels_apart(*pair) for pair in pairs) <= 1


def test_a_face_that_one_pass_repainted_counts_as_repainted(quick, poisoned):
    route = Recorder(lambda batch: poisoned if batch == 1 else quick._inpainter)
    result = rebuilt(quick, route).detail_faces(request(), [FACE])
    assert result.unchanged == 0
    (image,) = result.images
    (detail,) = quick.detail_faces(request(passes="detail"), [FACE]).images
    assert same(image, detail)
