"""Where the measurements run: SDXL's sizes with random weights on a card, or a small profile on one
that is pretended.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pretend_cuda import pretending

from evaluation.bench.run import BenchSetup
from evaluation.bench.workload import Workload
from pipeline.config import Profile
from pipeline.config_reading import read_profile
from weights.manifest import DIMENSIONS, PACKAGE_DIR, profile_folder

DEVICE = "cuda:0"


@dataclass(frozen=True)
class Place:
    """`sizes`: sides of the crops, the first the most important; `faces`: how many at a time;
    `few_steps`: where the steps' number does not matter.
    """

    setup: BenchSetup
    sizes: tuple[int, ...]
    faces: tuple[int, ...]
    face_px: int
    steps: int
    few_steps: int
    pretended: bool

    def profile(self, side: int) -> Profile:
        """With both passes at this size, whatever the face's."""
        profile = self.setup.profile
        outline = replace(profile.outline, work_px=(side,), low_work_px=None)
        return replace(
            profile,
            outline=outline,
            detail=replace(profile.detail, work_px=(side,), low_work_px=None),
        )

    def workload(self, faces: int, *, few: bool = False) -> Workload:
        """The smallest picture in which the faces are repainted together, not enlarged."""
        steps = self.few_steps if few else self.steps
        work = Workload(faces, self.face_px, self.face_px, steps, upscale=1)
        return replace(work, size_px=work.smallest_px)


def on_a_card() -> Place:
    profile = read_profile(PACKAGE_DIR / "sdxl")
    setup = BenchSetup(profile, DEVICE, DIMENSIONS / "sdxl", profile_folder("tiny"), "resident")
    return Place(setup, (1024, 768), (1, 2, 4, 8), 384, 20, 4, pretended=False)


def on_none() -> Place:
    """Everything small: what runs is what counts, and no figure means anything."""
    profile = read_profile(profile_folder("tiny"))
    # A CPU is slow in half precision; and a made-up face is not to be seen twice.
    config = replace(
        profile.inpainter, precision="float32", mirrored=False, residual=False, steps=1.0
    )
    profile = replace(profile, inpainter=config)
    setup = BenchSetup(profile, DEVICE, None, profile.folder, "resident")
    return Place(setup, (64,), (1, 2), 40, 2, 1, pretended=True)


@contextlib.contextmanager
def place(*, pretend: bool) -> Iterator[Place]:
    """For a block that measures."""
    if not pretend:
        yield on_a_card()
        return
    with pretending():
        yield on_none()
