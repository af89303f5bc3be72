"""Calls to a storage that answers nobody end when they are told to."""

import asyncio
import threading

import pytest

from server.accounts.threads import Threads


@pytest.mark.slow
def test_a_call_that_waits_for_a_thread_is_cancelled_for_good() -> None:
    stuck = threading.Event()

    async def scene() -> None:
        threads = Threads()
        blocked = [asyncio.create_task(threads.write(stuck.wait)()) for _ in range(4)]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(threads.write(lambda: None, patient=True)())
        await asyncio.sleep(0.1)
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=8)
        stuck.set()
        assert done
        assert waiting.cancelled()
        await asyncio.gather(*blocked)
        threads.close()

    asyncio.run(scene())
