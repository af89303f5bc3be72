"""`POST /upload-asset`: pictures that later requests name by URL."""

import asyncio
from collections.abc import Mapping, Sequence

from fastapi import Request, Response

from server.accounting import Account
from server.api import contract
from server.api.files import JobFiles
from server.api.intake import Intake
from server.api.json_bodies import LongText, SentImage
from server.api.pictures import PictureReader
from server.api.proxies import base_url
from server.api.replies import Call, json_reply
from server.errors import BadImage, BadParameter, TooLarge
from server.settings import Settings


class Uploading:
    """Keeps pictures for their owner, for as long as results are kept."""

    def __init__(
        self, settings: Settings, intake: Intake, pictures: PictureReader, files: JobFiles
    ) -> None:
        self._public = settings.public_base_url
        self._quota_bytes = settings.max_uploaded_bytes
        self._intake = intake
        self._pictures = pictures
        self._files = files
        # What was read of the quota holds until the pictures are written.
        self._keeping = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """The URLs of what was uploaded, in order.

        Raises:
            BadParameter: there is nothing to upload.
            BadImage, TooLarge: one is no picture that is read, or passes a limit; none is kept.
            StorageFull: no room is left.
        """
        call: Call = request.state.call
        account = await self._intake.admit(request)
        pictures = _pictures(await self._intake.values(request))
        checked = [(await self._pictures.read_sent(picture)).data for picture in pictures]
        async with self._keeping:
            tokens = await asyncio.to_thread(self._keep, account, checked)
        base = f"{base_url(request, self._public)}{contract.ASSETS}"
        urls = [f"{base}/{token}" for token in tokens]
        return uploaded_reply(urls, call)

    def _keep(self, account: Account, pictures: list[bytes]) -> list[str]:
        used_bytes = self._files.assets_bytes(account.id)
        if used_bytes + sum(map(len, pictures)) > self._quota_bytes:
            limit = contract.mebibytes(self._quota_bytes)
            raise TooLarge(f"the account's uploaded pictures may take {limit}")
        tokens: list[str] = []
        try:
            for picture in pictures:
                token = self._files.put_asset(account.id, picture)
                tokens.append(token)
        except BaseException:
            for token in tokens:
                self._files.drop_asset(account.id, token)
            raise
        return tokens


def uploaded_reply(urls: Sequence[str], call: Call) -> Response:
    """The answer to an upload: where the pictures are, in order."""
    body = {"file_urls": urls, "message": "Files uploaded successfully"}
    return json_reply(body, call)


def _pictures(values: Mapping[str, object]) -> list[SentImage]:
    """The pictures of a body: `data_urls` as the vendor's package sends them, else every file."""
    listed = values.get("data_urls")
    one: list[SentImage] = [listed] if isinstance(listed, str | LongText) else []
    found: list[SentImage] = listed if isinstance(listed, list) else one
    found = found or [value for value in values.values() if isinstance(value, bytes)]
    if not found:
        raise BadParameter("data_urls should be a list of data URIs, or send files")
    for picture in found:
        if not isinstance(picture, SentImage):
            raise BadImage("it is neither an http(s) URL nor base64 nor a data URI")
    return found
