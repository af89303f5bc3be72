"""What every call that brings something goes through first, in the contract's order."""

import asyncio
from collections.abc import Mapping
from decimal import Decimal

from fastapi import Request

from server.accounting import Account, Accounts
from server.api.bodies import media_type, read_values
from server.api.contract import ASSETS
from server.api.files import JobFiles
from server.api.json_bodies import SentImage
from server.api.proxies import base_url
from server.api.replies import Call
from server.api.room import Room
from server.errors import BadImage, NotEnoughCredits
from server.metrics import Metrics
from server.settings import Settings


class Intake:
    """Content type, credits, rate; then the body, within its limits; and uploaded pictures."""

    def __init__(
        self, settings: Settings, accounts: Accounts, files: JobFiles, metrics: Metrics
    ) -> None:
        self._accounts = accounts
        self._files = files
        self._public = settings.public_base_url
        self._max_bytes = settings.max_body_bytes
        self._timeout_s = settings.body_timeout_s
        self._room = Room(settings.max_bodies, settings.max_bodies_bytes)
        metrics.bodies.set_function(lambda: len(self._room))
        metrics.bodies_bytes.set_function(lambda: self._room.size_bytes)

    async def admit(self, request: Request, *, least: Decimal = Decimal(0)) -> Account:
        """Let a call in that costs `least` credits at least; whose it is.

        Raises:
            BadContentType: its body is neither JSON nor multipart/form-data.
            NotEnoughCredits: the account cannot pay.
            RateLimited: the account calls too often.
        """
        call: Call = request.state.call
        account: Account = request.state.account
        media_type(request)
        if not account.unlimited and call.remaining < least:
            raise NotEnoughCredits
        await self._accounts.count_call(account)
        return account

    async def values(self, request: Request) -> Mapping[str, object]:
        """What the body says, by field name: see `read_values`."""
        return await read_values(
            request, self._room, max_bytes=self._max_bytes, timeout_s=self._timeout_s
        )

    async def resolved(self, request: Request, image: SentImage) -> SentImage:
        """The uploaded picture, where `image` is the URL of one; anything else as it came.

        Raises:
            BadImage: the account has no such picture, or no more.
        """
        begins = f"{base_url(request, self._public)}{ASSETS}/"
        if not isinstance(image, str) or not image.startswith(begins):
            return image
        account: Account = request.state.account
        token = image.removeprefix(begins)
        data = await asyncio.to_thread(self._files.asset, account.id, token)
        if data is None:
            raise BadImage("its URL does not lead to a picture that you uploaded, or no more")
        return data
