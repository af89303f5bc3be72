"""A job's events: in order, to late comers and those who come back too, and with an end."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.api.events import Event, EventLog, EventLogs


async def names(events: AsyncIterator[Event]) -> list[str]:
    return [f"{event.number} {event.name}" async for event in events]


def test_a_watcher_sees_old_and_new_events_and_the_end() -> None:
    async def watch() -> list[str]:
        log = EventLog()
        log.add("queued", {"place": 1})
        watching = asyncio.create_task(names(log.after(0)))
        await asyncio.sleep(0)
        log.add("detecting", {})
        await asyncio.sleep(0)
        log.add("done", {})
        return await watching

    assert asyncio.run(watch()) == ["1 queued", "2 detecting", "3 done"]


def test_who_comes_back_goes_on_where_he_was() -> None:
    async def watch() -> list[list[str]]:
        log = EventLog()
        for faces in range(3):
            log.add("found", {"faces": faces})
        log.add("done", {})
        return [await names(log.after(number)) for number in (0, 2, 4, 99)]

    assert asyncio.run(watch()) == [
        ["1 found", "2 found", "3 found", "4 done"],
        ["3 found", "4 done"],
        ["4 done"],
        ["4 done"],
    ]


@pytest.mark.parametrize("name", ["step", "upscaling"])
def test_of_many_steps_the_latest_is_kept(name: str) -> None:
    log = EventLog()
    for share in range(3):
        log.add(name, {"share": share})
    log.add("done", {})
    assert [event.number for event in log._events] == [3, 4]


def test_who_counts_by_an_earlier_server_sees_all_of_this_one() -> None:
    async def watch() -> list[str]:
        log = EventLog()
        log.add("queued", {"place": 0})
        watching = asyncio.create_task(names(log.after(57)))
        await asyncio.sleep(0)
        log.add("done", {})
        return await watching

    assert asyncio.run(watch()) == ["1 queued", "2 done"]


def test_the_same_again_is_no_event_and_nothing_follows_the_end() -> None:
    log = EventLog()
    for place in (2, 2, 1):
        log.add("queued", {"place": place})
    log.add("failed", {"error": "why"})
    log.add("done", {})
    assert [event.name for event in log._events] == ["queued", "queued", "failed"]
    assert log.ended


def test_several_watch_one_job() -> None:
    async def watch() -> list[list[str]]:
        log = EventLogs().of("job")
        watching = [asyncio.create_task(names(log.after(0))) for _ in range(3)]
        await asyncio.sleep(0)
        log.add("done", {})
        return await asyncio.gather(*watching)

    assert asyncio.run(watch()) == [["1 done"]] * 3
