"""What calls cost: the most before the work, which is set aside, and what is charged after it."""

from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import Final, Self

from server.api.parameters import MOST_PASSES
from server.setting_values import MOST_CREDITS
from server.settings import Settings
from server.types import DetailOptions, Outcome

_UNIT: Final = Decimal("1e-10")
_MEGAPIXEL: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """What a price depends on, over all samples. `faces`: those with a repaint, each sample
    counts. `pixels`: of the results. `steps`: of denoising, for these faces.
    """

    samples: int
    faces: int
    pixels: int
    steps: int


@dataclass(frozen=True, slots=True)
class Prices:
    """The settings' prices, in credits."""

    call: Decimal
    sample: Decimal
    face: Decimal
    megapixel: Decimal
    step: Decimal
    detect: Decimal

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of a server with these settings."""
        return cls(
            settings.cost_per_call,
            settings.cost_per_sample,
            settings.cost_per_face,
            settings.cost_per_megapixel,
            settings.cost_per_step,
            settings.cost_per_detection,
        )

    @property
    def least(self) -> Decimal:
        """What a call that details costs at least."""
        return self.call + self.sample

    def charge(self, work: Work) -> Decimal:
        """What this work costs."""
        megapixels = Decimal(work.pixels) / _MEGAPIXEL
        price = (
            self.call
            + self.sample * work.samples
            + self.face * work.faces
            + self.megapixel * megapixels
            + self.step * work.steps
        )
        return price.quantize(_UNIT, ROUND_DOWN)

    def most(self, options: DetailOptions, pixels: int) -> Decimal:
        """What a request may cost at most: as much as any account can have is the end of it.

        Args:
            options: its parameters, the upscale as the picture's size allows it.
            pixels: of the picture that was sent.
        """
        recipe, selection = options.recipe, options.selection
        faces = selection.max_faces
        if selection.affordable is not None:
            faces = min(faces, selection.affordable)
        faces *= recipe.samples
        most = self.charge(
            Work(
                samples=recipe.samples,
                faces=faces,
                pixels=recipe.samples * pixels * recipe.upscale**2,
                steps=faces * recipe.num_inference_steps * MOST_PASSES[recipe.passes],
            )
        )
        return min(most, Decimal(MOST_CREDITS))


def work_of(outcome: Outcome) -> Work:
    """What was done for a job."""
    samples, report = len(outcome.pictures), outcome.report
    return Work(
        samples=samples,
        faces=max(0, samples * report.detailed - report.unchanged - report.taken_back),
        pixels=samples * outcome.width_px * outcome.height_px,
        steps=report.steps,
    )
