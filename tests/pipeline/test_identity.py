"""The identity gate: which repaints stay, which are done again from less noise, which go."""

from dataclasses import replace

import numpy as np
import pytest
from example_calls import (
    DAMAGED,
    ELSEWHERE,
    FACE,
    OVERLAPPING,
    SOUND,
    STEPS,
    Recorder,
    inside,
    request,
    same,
)
from repainters import rebuilt
from tiny_onnx import write_sface, write_yunet

from pipeline.config_reading import read_profile
from pipeline.detailer import FaceDetailer
from pipeline.errors import InvalidProfile, Stopped, WeightsError
from pipeline.identity import IdentityGate
from pipeline.loading import load, load_gate
from pipeline.models.dlib_faces import DlibRecogniser
from pipeline.report import FaceIdentity
from pipeline.types import FaceCrop, Image


class ByPixels:
    """Sees nothing but how far apart the levels in the face's box are; of a flat one nothing."""

    def __init__(self) -> None:
        self.seen: list[FaceCrop] = []

    def likeness(self, before: FaceCrop, after: FaceCrop) -> float | None:
        self.seen += [before, after]
        one, other = (inside(crop.box, crop.image).astype(float) for crop in (before, after))
        return None if one.std() < 1 else 1 - float(np.abs(one - other).mean()) / 255


def gated(quick: FaceDetailer, threshold: float) -> tuple[FaceDetailer, Recorder]:
    recorder = Recorder(lambda _batch: quick._inpainter)
    return rebuilt(quick, recorder, gate=IdentityGate(ByPixels(), threshold)), recorder


def cosines(quick: FaceDetailer, asked, faces, threshold: float) -> dict[tuple[int, int], float]:
    result = gated(quick, threshold)[0].detail_faces(asked, faces)
    return {(judged.sample, judged.face): judged.cosine for judged in result.identity}


def test_without_a_gate_nothing_is_said(quick):
    assert quick.detail_faces(request(), [FACE]).identity == ()


def test_a_face_that_is_alike_enough_stays_as_it_was_repainted(quick):
    detailer, recorder = gated(quick, 0.0)
    result = detailer.detail_faces(request(), [FACE, ELSEWHERE])
    assert same(result.images[0], quick.detail_faces(request(), [FACE, ELSEWHERE]).images[0])
    assert [(judged.face, judged.sample, judged.outcome) for judged in result.identity] == [
        (1, 1, "kept"),
        (2, 1, "kept"),
    ]
    assert all(0.5 < judged.cosine < 1 for judged in result.identity)
    assert len(recorder.batches) == 2


@pytest.mark.parametrize("passes", ["detail", pytest.param("both", marks=pytest.mark.slow)])
def test_one_that_is_not_is_repainted_from_half_as_much_noise(quick, passes):
    """The result is the one that half of the denoise would have had in the first place."""
    asked = request(passes=passes)
    (first,) = cosines(quick, asked, [FACE], 0.0).values()
    (second,) = cosines(quick, request(passes=passes, denoise=0.25), [FACE], 0.0).values()
    assert second > first
    detailer, recorder = gated(quick, (first + second) / 2)
    told = []
    result = detailer.detail_faces(asked, [FACE], told.append)
    assert result.identity == (FaceIdentity(1, 1, second, "weaker"),)
    half = quick.detail_faces(request(passes=passes, denoise=0.25), [FACE])
    assert same(result.images[0], half.images[0])
    strengths = [job.strength for jobs in recorder.batches for job in jobs]
    runs = len(strengths) // 2
    assert [0.5 * strength for strength in strengths[:runs]] == strengths[runs:]
    # Both count as progress, and one is paid for.
    assert (told[-1].done, told[-1].total) == (2 * runs * STEPS, 2 * runs * STEPS)
    assert (result.steps, result.unchanged) == (runs * STEPS, 0)


def test_one_that_never_is_stays_as_it_was_and_is_not_paid_for(quick):
    rng = np.random.default_rng(0)
    grainy = SOUND.pixels + rng.normal(0, 12, SOUND.pixels.shape)
    image = Image(np.clip(grainy, 0, 255).astype(np.uint8))
    result = gated(quick, 1.0)[0].detail_faces(request(image), [FACE])
    assert same(result.images[0], image)
    assert [judged.outcome for judged in result.identity] == ["left"]
    assert (result.steps, result.unchanged, result.report.taken_back) == (0, 0, 1)
    assert result.faces == (FACE,)


def test_a_stopped_call_compares_no_further_face(quick):
    stopped = []

    class Stopping(ByPixels):
        def likeness(self, before: FaceCrop, after: FaceCrop) -> float | None:
            stopped.append(True)
            return super().likeness(before, after)

    detailer = rebuilt(quick, quick._inpainter, gate=IdentityGate(Stopping(), 0.0))
    with pytest.raises(Stopped):
        detailer.detail_faces(
            request(samples=2), [FACE, ELSEWHERE], should_stop=lambda: bool(stopped)
        )
    assert len(stopped) == 1


@pytest.mark.slow
def test_only_the_doubtful_face_of_the_doubtful_sample_is_done_again(quick):
    asked = request(samples=2, passes="detail")
    found = cosines(quick, asked, [FACE, ELSEWHERE], 0.0)
    ascending = sorted(found, key=found.get)
    threshold = (found[ascending[0]] + found[ascending[1]]) / 2
    detailer, recorder = gated(quick, threshold)
    result = detailer.detail_faces(asked, [FACE, ELSEWHERE])
    assert [len(jobs) for jobs in recorder.batches] == [4, 1]
    without = quick.detail_faces(asked, [FACE, ELSEWHERE])
    for judged in result.identity:
        box = (FACE, ELSEWHERE)[judged.face - 1]
        now, then = (
            inside(box, images[judged.sample - 1]) for images in (result.images, without.images)
        )
        is_doubtful = (judged.sample, judged.face) == ascending[0]
        assert (judged.outcome == "kept") is not is_doubtful
        assert np.array_equal(now, then) is not is_doubtful
    assert [(judged.sample, judged.face) for judged in result.identity] == sorted(found)


@pytest.mark.slow
def test_a_face_that_overlaps_a_rejected_one_is_still_repainted(quick):
    faces = [FACE, OVERLAPPING]
    found = cosines(quick, request(), faces, 0.0)
    assert len(found) == 2
    result = gated(quick, 1.0)[0].detail_faces(request(), faces)
    assert [judged.outcome for judged in result.identity] == ["left", "left"]
    assert same(result.images[0], DAMAGED)


def test_what_the_recogniser_sees_nothing_in_stays(quick):
    flat = Image(np.full_like(DAMAGED.pixels, 120))
    result = gated(quick, 1.0)[0].detail_faces(request(flat), [FACE])
    assert result.identity == (FaceIdentity(1, 1, None, "unknown"),)
    assert same(result.images[0], quick.detail_faces(request(flat), [FACE]).images[0])


def test_a_repaint_that_the_model_failed_at_twice_is_not_judged(quick):
    class Refusing(Recorder):
        def inpaint(self, jobs, on_step, should_stop):
            answers = super().inpaint(jobs, on_step, should_stop)
            return answers if len(self.batches) == 1 else [None] * len(jobs)

    recorder = Refusing(lambda _batch: quick._inpainter)
    detailer = rebuilt(quick, recorder, gate=IdentityGate(ByPixels(), 1.0))
    result = detailer.detail_faces(request(passes="detail"), [FACE])
    assert [judged.outcome for judged in result.identity] == ["left"]
    assert same(result.images[0], DAMAGED)
    assert result.unchanged == 0


@pytest.mark.parametrize("turns", [0, 1])
def test_the_recogniser_sees_the_face_upright(quick, turns):
    recogniser = ByPixels()
    detailer = rebuilt(quick, quick._inpainter, gate=IdentityGate(recogniser, 0.0))
    box = FACE
    if turns:
        side = SOUND.width_px
        box = replace(FACE, x0=FACE.y0, y0=side - FACE.x1, x1=FACE.y1, y1=side - FACE.x0)
        box = replace(box, quarter_turns=3)
    image = Image(np.ascontiguousarray(np.rot90(SOUND.pixels, turns)))
    detailer.detail_faces(request(image), [box])
    upright = ByPixels()
    rebuilt(quick, quick._inpainter, gate=IdentityGate(upright, 0.0)).detail_faces(
        request(SOUND), [FACE]
    )
    assert (
        np.abs(recogniser.seen[0].image.pixels - upright.seen[0].image.pixels.astype(int)).max()
        <= 1
    )


# --- recognisers and where they come from ---


@pytest.mark.slow
def test_dlibs_network_takes_a_repaint_for_the_same_person(detailer, tiny_folder):
    recogniser, threshold = DlibRecogniser(), read_profile(tiny_folder).identity.threshold
    gate = IdentityGate(recogniser, threshold)
    result = rebuilt(detailer, detailer._inpainter, gate=gate).detail_faces(request(), [FACE])
    assert [judged.outcome for judged in result.identity] == ["kept"]


def test_a_profile_is_loaded_with_its_recogniser_and_the_settings_threshold(tiny_folder):
    profile = read_profile(tiny_folder)
    assert load_gate(profile, "on")._threshold == profile.identity.threshold
    assert load_gate(profile, 0.25)._threshold == 0.25
    with pytest.raises(InvalidProfile, match=r"the profile tiny has no \[identity\] table"):
        load_gate(replace(profile, identity=None), "on")


@pytest.mark.slow
def test_a_profile_of_ones_own_names_the_two_files_of_sface(tiny_folder, tmp_path):
    write_sface(tmp_path / "sface.onnx")
    write_yunet(tmp_path / "yunet.onnx")
    text = (
        f'base = "{tiny_folder / "profile.toml"}"\n[identity]\nrecogniser = "sface"\n'
        f'weights = "{tmp_path / "sface.onnx"}"\nlandmarks = "{tmp_path / "yunet.onnx"}"\n'
    )
    (tmp_path / "mine.toml").write_text(text)
    detailer = load(tmp_path / "mine.toml", "cpu", identity=0.5)
    result = detailer.detail_faces(request(SOUND), [FACE])
    assert [judged.outcome for judged in result.identity] in (["kept"], ["unknown"])
    (tmp_path / "yunet.onnx").unlink()
    with pytest.raises(WeightsError, match=r"recogniser weights are missing: /.*/yunet\.onnx"):
        load(tmp_path / "mine.toml", "cpu", identity="on")
    (tmp_path / "mine.toml").write_text(text.replace("landmarks", "# landmarks"))
    with pytest.raises(
        InvalidProfile, match=r"identity\.recogniser should be .*with weights and l"
    ):
        load(tmp_path / "mine.toml", "cpu")
