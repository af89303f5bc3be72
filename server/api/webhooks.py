"""Telling a client's server of the end of a job: signed as Standard Webhooks, tried three times."""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Final

import httpx
import tenacity
from standardwebhooks.webhooks import Webhook

from server.accounting import Accounts
from server.api.fetch import GuardedTransport, MayReach
from server.api.replies_v2 import result_body
from server.api.stored import StoredRequest
from server.errors import ServerError, StorageAway
from server.types import JobState, StoredJob

FIRST_PAUSE_S: Final = 1.0
"""Between the first two tries; five times as long before the third."""

TRIES: Final = 3
_TIMEOUT_S: Final = 10.0
# A server that dies in a try has had it back before long.
_LEASE_S: Final = _TIMEOUT_S + 5
_LOOK_EVERY_S: Final = 1.0
_LAST_S: Final = 2.0
_MOST_AT_ONCE: Final = 64
_USER_AGENT: Final = "face-detailer"
_log = logging.getLogger(__name__)


class DeliveryFailed(Exception):
    """The receiver did not take it; the text says why."""


def pause_s(failed_tries: int) -> float:
    """How long to wait after so many tries."""
    return float(FIRST_PAUSE_S * 5 ** (failed_tries - 1))


class Webhooks:
    """Tells clients' servers of the end of their jobs, without keeping anything else waiting.

    What is owed is in the database until it is delivered: at least once, over restarts too.
    """

    def __init__(self, sender: "WebhookSender", accounts: Accounts, store: str) -> None:
        """`store`: the id of the jobs' files."""
        self._sender = sender
        self._accounts = accounts
        self._owed = accounts.webhooks(store)
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """A job has ended: look at once."""
        self._woken.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver while the block runs; what is on its way when it is left stays owed."""
        loop = asyncio.create_task(self._take(), name="webhooks")
        try:
            yield
        finally:
            tasks = [loop, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self) -> None:
        """Begin whatever is due."""
        while True:
            self._woken.clear()
            try:
                while len(self._tasks) < _MOST_AT_ONCE:
                    job = await self._owed.claim(_LEASE_S)
                    if job is None:
                        break
                    task = asyncio.create_task(self._tell(job), name=f"webhook {job.id}")
                    self._tasks.add(task)
                    task.add_done_callback(self._ended)
            except Exception:  # noqa: BLE001 - the loop outlives whatever happens
                _log.exception("owed webhooks cannot be read")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await self._woken.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.wake()

    async def _tell(self, job: StoredJob) -> None:
        try:
            await self._try(job)
            await self._owed.end(job.id)
        except asyncio.CancelledError:
            # The next server need not wait for the lease's end, unless the storage is away.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_S):
                    await self._owed.put_off(job.id, 0, job.webhook_tries)
            raise
        except StorageAway:
            await self._owed.put_off(job.id, 0, job.webhook_tries)
        except DeliveryFailed as error:
            _log.warning("%s: the webhook was not delivered: %s", job.id, error)
            await self._failed(job)
        except Exception:  # noqa: BLE001 - nobody awaits this task
            _log.exception("%s: the webhook was not delivered", job.id)
            await self._failed(job)

    async def _try(self, job: StoredJob) -> None:
        key = await self._accounts.webhook(job.key_id)
        url = job.webhook_url or key.url
        if url is None:
            return
        request = StoredRequest.from_json(job.request)
        remaining = await self._accounts.balance(key.account)
        kind = "completed" if job.state is JobState.COMPLETED else "failed"
        ended = datetime.fromtimestamp((job.finished_ms or 0) / 1000, UTC)
        data = result_body(job, request.base_url, remaining)
        body = event_body(f"request.{kind}", data, ended)
        await self._sender.try_once(url, key.secret, f"msg_{job.id}", json.dumps(body))
        _log.info("%s: the webhook was delivered", job.id)

    async def _failed(self, job: StoredJob) -> None:
        tries = job.webhook_tries + 1
        if tries >= TRIES:
            await self._owed.end(job.id)
            return
        pause = pause_s(tries)
        await self._owed.put_off(job.id, pause, tries)
        asyncio.get_running_loop().call_later(pause, self.wake)


def event_body(kind: str, data: Mapping[str, object], at: datetime) -> dict[str, object]:
    """An event as Standard Webhooks wants it."""
    return {"type": kind, "timestamp": at.isoformat(), "data": data}


class WebhookSender:
    """Posts events to addresses that may be reached, with growing pauses between tries."""

    def __init__(self, may_reach: MayReach) -> None:
        """`may_reach`: which IP addresses may be connected to, as for pictures' URLs."""
        self._may_reach = may_reach
        self._tls = httpx.create_ssl_context()

    async def send(self, url: str, secret: str, event_id: str, body: Mapping[str, object]) -> None:
        """Deliver, with up to three tries.

        `event_id` is the same in every try: by it a receiver knows what it has had.

        Raises:
            DeliveryFailed: none of the tries was answered with success.
        """
        text = json.dumps(body)
        trying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=lambda state: pause_s(state.attempt_number),
            retry=tenacity.retry_if_exception_type(DeliveryFailed),
            reraise=True,
        )
        async for attempt in trying:
            with attempt:
                await self.try_once(url, secret, event_id, text)

    async def try_once(self, url: str, secret: str, event_id: str, text: str) -> None:
        """Deliver JSON, with one try.

        Raises:
            DeliveryFailed: it was not answered with success.
        """
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": _USER_AGENT,
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(event_id, now, text),
        }
        transport = GuardedTransport(self._tls, self._may_reach)
        try:
            # No redirect is followed: what is signed for one receiver is not for another.
            async with (
                asyncio.timeout(_TIMEOUT_S),
                httpx.AsyncClient(transport=transport, timeout=_TIMEOUT_S) as client,
                client.stream("POST", url, content=text, headers=headers) as reply,
            ):
                status = reply.status_code
        except (TimeoutError, httpx.TimeoutException) as error:
            raise DeliveryFailed(f"it did not answer within {_TIMEOUT_S:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as error:
            raise DeliveryFailed("it cannot be reached") from error
        except ServerError as error:
            raise DeliveryFailed(str(error)) from error
        if not 200 <= status < 300:
            raise DeliveryFailed(f"it answered with status {status}")
