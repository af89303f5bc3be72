"""Does the work of a stored job, and keeps what came of it as files."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import tenacity

from pipeline.progress import OnProgress, Progress
from pipeline.timing import StageTime
from server.api.desk import Desk
from server.api.events import in_words
from server.api.prices import Prices, work_of
from server.api.stored import StoredRequest, StoredResult
from server.errors import NoWorker, Starting, StorageAway
from server.types import ImageFormat, Outcome, Place, StoredJob

# How long room is waited for, so that a picture that was done need not be thrown away.
_ROOM_S: Final = 30.0
_ROOM_EVERY_S: Final = 1.0
# How long a job stays here that nobody could do: queued again at once, it would be claimed again at
# once, to the same end.
_PAUSE_S: Final = 1.0

Detail = Callable[[Place, StoredJob, StoredRequest, OnProgress], Awaitable[Outcome]]
"""Does one job in its place: its picture found, its size capped."""


class Working:
    """From a claimed job to its stored result. Cancelling what awaits that cancels the work."""

    def __init__(self, desk: Desk, detail: Detail, prices: Prices) -> None:
        self._desk = desk
        self._detail = detail
        self._prices = prices

    async def result(self, job: StoredJob, place: Place, stages: list[StageTime]) -> StoredResult:
        """What came of the job; `stages` gets those of its work.

        Raises:
            NoWorker, Starting: nobody could do it now; somebody will.
            ServerError: any other that `Place.run` raises, or the picture is at fault.
            StorageAway, StorageFull: the result cannot be kept.
        """
        request = StoredRequest.from_json(job.request)
        started = time.monotonic()
        try:
            outcome = await self._detail(place, job, request, self._progress_of(job.id))
        except (NoWorker, Starting):
            await asyncio.sleep(_PAUSE_S)
            raise
        stages.extend(outcome.stages)
        return await self._kept(outcome, request.options.encoding.image_format, started)

    async def _kept(
        self, outcome: Outcome, image_format: ImageFormat, started: float
    ) -> StoredResult:
        """The result, written as soon as the disk takes it.

        Raises:
            StorageAway, StorageFull: it does not for a while.
        """
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(StorageAway),
            wait=tenacity.wait_fixed(_ROOM_EVERY_S),
            stop=tenacity.stop_after_delay(_ROOM_S),
            reraise=True,
        ):
            with attempt:
                put = self._desk.files.put_results
                token, names = await asyncio.to_thread(put, outcome.pictures, image_format)
        return StoredResult(
            token=token,
            names=tuple(names),
            sizes_bytes=tuple(len(picture) for picture in outcome.pictures),
            width_px=outcome.width_px,
            height_px=outcome.height_px,
            report=outcome.report,
            seconds=time.monotonic() - started,
            cost=self._prices.charge(work_of(outcome)),
        )

    def _progress_of(self, job_id: str) -> OnProgress:
        log = self._desk.events.of(job_id)

        def on_progress(progress: Progress) -> None:
            log.add(*in_words(progress))

        return on_progress
