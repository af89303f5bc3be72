"""Trajectories that share UNet calls, as arrays on the device: a row each, or two with guidance.

Nothing here copies between host and device or waits for it, so that the device always has work. Who
is in a batch seldom changes; what does not change from step to step is put together once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.models.fitting import padded
from pipeline.models.sdxl.sampler import Column, Latents, seen, step
from pipeline.models.sdxl.trajectory import DenoiseTrajectory


@dataclass(frozen=True, slots=True)
class UNetRows:
    """UNet inputs; N rows of each. `sample`: (N, C, h, w). `timestep`: (N,) float32. `context`:
    (N, tokens, D). `pooled`: (N, P). `time_ids`: (N, 6). `control`: (N, 3, H, W), what a ControlNet
    is shown, and `face`: (N, tokens, D), what an IP-Adapter tells; None without one.
    """

    sample: torch.Tensor
    timestep: torch.Tensor
    context: torch.Tensor
    pooled: torch.Tensor
    time_ids: torch.Tensor
    control: torch.Tensor | None = None
    face: torch.Tensor | None = None

    def part(self, rows: slice, size: int) -> "UNetRows":
        """Some of the rows, the last of them repeated up to `size`."""
        return UNetRows(
            sample=padded(self.sample[rows], size),
            timestep=padded(self.timestep[rows], size),
            context=padded(self.context[rows], size),
            pooled=padded(self.pooled[rows], size),
            time_ids=padded(self.time_ids[rows], size),
            control=None if self.control is None else padded(self.control[rows], size),
            face=None if self.face is None else padded(self.face[rows], size),
        )


class TrajectoryBatch:
    """Trajectories of one size, none of which is done.

    Their rows are one per trajectory with its prompt, those that are guided first, and after these
    one per guided trajectory with its negative prompt.
    """

    def __init__(self, trajectories: Sequence[DenoiseTrajectory]) -> None:
        self._members = sorted(trajectories, key=lambda member: not member.guided)
        self._guided = sum(member.guided for member in self._members)
        canvases = [member.canvas for member in self._members]
        self._latents = Latents(
            torch.cat([member.state.now for member in self._members]),
            torch.cat([member.state.before for member in self._members]),
        )
        self._pictures = torch.cat([canvas.latents for canvas in canvases])
        self._noise = torch.cat([canvas.noise for canvas in canvases])
        self._masks = torch.cat([canvas.mask for canvas in canvases])
        self._conditions()
        self._hidden = self._what_is_hidden()
        self._control = self._what_is_shown()
        self._faces = self._who_is_there()
        self._tables = torch.cat([member.table for member in self._members])
        self._positions = self._first_positions()
        self._columns = self._read_columns()

    def holds(self, trajectories: Sequence[DenoiseTrajectory]) -> bool:
        """Whether it is these, in any order."""
        return {id(member) for member in self._members} == {id(other) for other in trajectories}

    def _conditions(self) -> None:
        """What the prompts and sizes say, per row."""
        texts = [member.prompt for member in self._members]
        texts += [member.negative for member in self._members[: self._guided]]
        # A text of which every token is there k times over weighs as it does once.
        length = math.lcm(*(text.context.shape[1] for text in texts))
        self._context = torch.cat(
            [text.context.repeat(1, length // text.context.shape[1], 1) for text in texts]
        )
        self._pooled = torch.cat([text.pooled for text in texts])
        sizes = torch.cat([member.time_ids for member in self._members])
        self._time_ids = self._doubled(sizes)

    def _what_is_hidden(self) -> torch.Tensor | None:
        """The channels of a UNet that sees the mask, (N, 5, h, w): mask, picture without it."""
        masked = [member.canvas.masked_latents for member in self._members]
        known = [latents for latents in masked if latents is not None]
        if not known:
            return None
        paintable = (self._masks > 0).to(self._context.dtype)
        return torch.cat([paintable, torch.cat(known).to(self._context.dtype)], dim=1)

    def _what_is_shown(self) -> torch.Tensor | None:
        """To a ControlNet, per row."""
        known = [member.canvas.control for member in self._members]
        shown = [picture for picture in known if picture is not None]
        return self._doubled(torch.cat(shown)) if shown else None

    def _who_is_there(self) -> torch.Tensor | None:
        """By an IP-Adapter, per row: nobody, beside a negative prompt."""
        known = [member.canvas.face for member in self._members]
        faces = [face for face in known if face is not None]
        if not faces:
            return None
        nobody = [face[1:] for face in faces[: self._guided]]
        return torch.cat([face[:1] for face in faces] + nobody)

    def _first_positions(self) -> torch.Tensor:
        """(N,) where in the tables each trajectory is."""
        positions, start = [], 0
        for member in self._members:
            # Filled by the device: a list of numbers would be copied to it.
            positions.append(torch.full((1,), start + member.index, device=self._tables.device))
            start += len(member.table)
        return torch.cat(positions)

    def _read_columns(self) -> tuple[torch.Tensor, ...]:
        """The coming step's numbers, (N, 1, 1, 1) by `Column`."""
        rows = self._tables.index_select(0, self._positions)
        return rows.view(*rows.shape, 1, 1, 1).unbind(1)

    def rows(self) -> UNetRows:
        """The inputs of the next step."""
        sample = seen(self._latents.now, self._columns).to(self._context.dtype)
        if self._hidden is not None:
            sample = torch.cat([sample, self._hidden], dim=1)
        return UNetRows(
            sample=self._doubled(sample),
            timestep=self._doubled(self._columns[Column.TIMESTEP].flatten().contiguous()),
            context=self._context,
            pooled=self._pooled,
            time_ids=self._time_ids,
            control=self._control,
            face=self._faces,
        )

    def advance(self, answers: torch.Tensor) -> None:
        """Guide, step, and put the picture back where the model may not paint yet.

        Args:
            answers: the UNet's for `rows`, (rows, 4, h, w).
        """
        answer = self._guide(answers.to(self._latents.now.dtype))
        stepped, picture = step(self._latents, answer, self._columns)
        painted = self._masks >= self._columns[Column.PAINTED_FROM]
        original = self._pictures + self._columns[Column.NOISE] * self._noise
        self._latents = Latents(torch.where(painted, stepped, original), picture)
        rows = (torch.split(part, 1) for part in self._latents)
        for member, now, before in zip(self._members, *rows, strict=True):
            member.move(Latents(now, before))
        if not any(member.done for member in self._members):
            self._positions = self._positions + 1
            self._columns = self._read_columns()

    def _guide(self, answers: torch.Tensor) -> torch.Tensor:
        """One answer per trajectory."""
        wanted, unwanted = answers[: len(self._members)], answers[len(self._members) :]
        if self._guided == 0:
            return wanted
        scale = self._columns[Column.GUIDANCE][: self._guided]
        guided = unwanted + scale * (wanted[: self._guided] - unwanted)
        return torch.cat([guided, wanted[self._guided :]])

    def _doubled(self, values: torch.Tensor) -> torch.Tensor:
        """Per trajectory → per row."""
        return torch.cat([values, values[: self._guided]]) if self._guided else values
