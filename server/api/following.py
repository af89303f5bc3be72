"""Following a stored job: its status, its result, its events, its end before time."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, ParamSpec, TypeVar

import anyio
import tenacity
from fastapi import Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from server.accounting import Account, Accounts
from server.api.desk import Desk
from server.api.events import EVENT_HEADERS, FINAL, Event, EventLog
from server.api.proxies import base_url
from server.api.replies import Call, json_reply, row_of
from server.api.replies_v2 import job_id_of, job_reply, media_type_of, result_body, status_body
from server.api.result_file import ResultFile
from server.api.runner import JobRunner
from server.errors import Cancelled, StorageAway, UnknownPath, UnknownRequest
from server.settings import Settings
from server.types import JobState, StoredJob

_HEARTBEAT_S: Final = 15
_LOOK_EVERY_S: Final = 2.0
_LONGEST_ID: Final = 10
_GOODBYE_S: Final = 1.0
P = ParamSpec("P")
Result = TypeVar("Result")


class Following:
    """The calls about a job that was accepted. None of them counts against the rate limit."""

    def __init__(
        self, settings: Settings, accounts: Accounts, desk: Desk, runner: JobRunner
    ) -> None:
        self._accounts = accounts
        self._public = settings.public_base_url
        self._keep_s = settings.keep_results_s
        self._desk = desk
        self._runner = runner

    async def status(self, request: Request) -> Response:
        """How far it is.

        Raises:
            UnknownRequest: the account has no such job.
        """
        job = await self._job(request)
        place = await self._desk.jobs.ahead(job) if job.state is JobState.QUEUED else None
        return job_reply(job, status_body(job, self._base(request), place), request.state.call)

    async def result(self, request: Request) -> Response:
        """What came of it; of a job that has not ended, its status.

        Raises:
            UnknownRequest: the account has no such job.
        """
        job = await self._job(request)
        if job.state.is_open:
            return await self.status(request)
        call: Call = request.state.call
        return job_reply(job, result_body(job, self._base(request), call.remaining), call)

    async def cancel(self, request: Request) -> Response:
        """Stop it, free of charge; a job that has ended stays as it is.

        Raises:
            UnknownRequest: the account has no such job.
        """
        account: Account = request.state.account
        row = row_of(Cancelled())
        with _as_sent(request):
            job = await self._desk.jobs.cancel(self._id(request), account.id, row.text, row.status)
        self._runner.stop_job(job.id)
        if job.state is JobState.FAILED and job.cancelled:
            # It will not be begun, and its room is others'.
            await asyncio.to_thread(self._desk.files.drop, "inputs", job.id)
            self._desk.events.of(job.id).add("cancelled", {"error": row.text})
        body = status_body(job, self._base(request), None)
        return json_reply(body, request.state.call)

    async def events(self, request: Request) -> Response:
        """What becomes of it, as server-sent events, from the one after `Last-Event-ID` on.

        Raises:
            UnknownRequest: the account has no such job.
        """
        job = await self._job(request)
        headers = request.state.call.headers() | EVENT_HEADERS
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/event-stream")
        seen = request.headers.get("last-event-id", "")
        after = int(seen) if seen.isdecimal() and len(seen) <= _LONGEST_ID else 0
        stopping = anyio.Event()
        return EventSourceResponse(
            self._stream(request, job, after, stopping),
            ping=_HEARTBEAT_S,
            headers=headers,
            shutdown_event=stopping,
            shutdown_grace_period=_GOODBYE_S,
        )

    async def file(self, request: Request) -> Response:
        """A result's file; whoever knows its URL may have it.

        Raises:
            UnknownPath: there is none, or no more.
            BadRange, BeyondEnd: a part is asked for that cannot be given.
        """
        token, name = request.path_params["token"], request.path_params["name"]
        path = self._desk.files.result(token, name)
        if path is None:
            raise UnknownPath
        keep = f"private, max-age={int(self._keep_s)}, immutable"
        headers = request.state.call.headers() | {"Cache-Control": keep}
        return ResultFile(path, media_type=media_type_of(name), headers=headers)

    async def _stream(
        self, request: Request, job: StoredJob, after: int, stopping: anyio.Event
    ) -> AsyncIterator[ServerSentEvent]:
        """`stopping`: set when the server ends. Its successor goes on."""
        log = self._desk.events.of(job.id)
        if job.state is JobState.QUEUED:
            await self._add_place(job)
        watching = asyncio.create_task(self._watch(job, request.state.account))
        ending = asyncio.create_task(_look_up_at(stopping, log))
        try:
            async for event in log.after(after, stopping.is_set):
                yield await self._sent(request, job, event)
        finally:
            watching.cancel()
            ending.cancel()

    async def _watch(self, job: StoredJob, account: Account) -> None:
        """Tell the log what only the database says: the place, and what other servers did."""
        log = self._desk.events.of(job.id)
        while not log.ended:
            try:
                job = await _patiently(self._desk.jobs.get, job.id, account.id)
            except UnknownRequest:
                log.add("failed", {"error": "The request is kept no longer"})
                return
            match job.state:
                case JobState.QUEUED:
                    await self._add_place(job)
                case JobState.COMPLETED:
                    log.add("done", {})
                case JobState.FAILED:
                    ending = "cancelled" if job.cancelled else "failed"
                    log.add(ending, {"error": job.error})
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _add_place(self, job: StoredJob) -> None:
        """Unless it was begun here while the database was asked."""
        place = await _patiently(self._desk.jobs.ahead, job)
        log = self._desk.events.of(job.id)
        if log.is_waiting:
            log.add("queued", {"place": place})

    async def _sent(self, request: Request, job: StoredJob, event: Event) -> ServerSentEvent:
        data = dict(event.data)
        if event.name in FINAL:
            account: Account = request.state.account
            ended = await _patiently(self._desk.jobs.get, job.id, account.id)
            remaining = await _patiently(self._accounts.balance, account)
            data |= result_body(ended, self._base(request), remaining)
        return ServerSentEvent(json.dumps(data), event=event.name, id=str(event.number))

    def _base(self, request: Request) -> str:
        return base_url(request, self._public)

    def _id(self, request: Request) -> str:
        job_id = job_id_of(request.path_params["request_id"])
        if job_id is None:
            raise UnknownRequest
        return job_id

    async def _job(self, request: Request) -> StoredJob:
        with _as_sent(request):
            return await self._desk.jobs.get(self._id(request), request.state.account.id)


async def _patiently(
    call: Callable[P, Coroutine[Any, Any, Result]], *args: P.args, **kwargs: P.kwargs
) -> Result:
    """Ask again while the storage is away: a stream that has begun cannot become a 503."""
    trying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(StorageAway),
        wait=tenacity.wait_fixed(_LOOK_EVERY_S),
    )
    return await trying(call, *args, **kwargs)


async def _look_up_at(moment: anyio.Event, log: EventLog) -> None:
    await moment.wait()
    log.look_up()


@contextlib.contextmanager
def _as_sent(request: Request) -> Iterator[None]:
    """What is unknown is named as its sender wrote it."""
    try:
        yield
    except UnknownRequest:
        raise UnknownRequest(request.path_params["request_id"]) from None
