"""How often an account may call, per minute."""

import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from server.errors import RateLimited


class RateLimit:
    """At most `per_minute` calls in any 60 seconds for each account; 0 means no limit."""

    def __init__(self, per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(per_minute) if per_minute else None
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def count(self, account: str) -> None:
        """Count one call.

        Raises:
            RateLimited: the account has used up its minute; it says when it may call again.
        """
        if self._item is None or await self._limiter.hit(self._item, account):
            return
        window = await self._limiter.get_window_stats(self._item, account)
        raise RateLimited(retry_after_s=window.reset_time - time.time())
