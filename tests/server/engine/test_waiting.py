"""In which turn waiting jobs get a worker."""

import asyncio
from dataclasses import replace

from workers_support import job

from server.engine.waiting import FairQueue, Ticket


def ticket(account_id: int, left_s: float) -> Ticket:
    loop = asyncio.get_running_loop()
    return Ticket(
        replace(job(), account_id=account_id), loop.create_future(), None, loop.time() + left_s
    )


def test_who_is_past_his_deadline_takes_no_turn_and_costs_his_account_none() -> None:
    async def turns() -> None:
        queue = FairQueue()
        late, first, second, other = ticket(1, 0), ticket(1, 60), ticket(1, 60), ticket(2, 60)
        for each in (late, first, second, other):
            queue.add(each)
        order = [queue.pop({}) for _ in range(4)]
        assert order == [first, other, second, None]
        assert list(queue) == [late]
        late.deadline_s += 60
        assert queue.pop({}) is late

    asyncio.run(turns())


def test_who_waits_again_is_first_of_his_account_but_not_before_those_with_less_at_work() -> None:
    async def turns() -> None:
        queue = FairQueue()
        again, mine, other = ticket(1, 60), ticket(1, 60), ticket(2, 60)
        queue.add(mine)
        queue.add(other)
        queue.add_first(again)
        assert [queue.pop({1: 1}) for _ in range(3)] == [other, again, mine]

    asyncio.run(turns())
