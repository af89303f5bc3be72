"""`face-detailer webhooks`: who is told of the end of queued requests, and whether that works."""

from typing import Annotated

import typer

from server.cli.accounts import database
from server.errors import OperatorError, UsageError

app = typer.Typer(help="Webhooks of API keys.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(help="The key, or its first characters.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="An http:// or https:// address.")]


@app.command("set")
def set_webhook(key: Key, url: Url) -> None:
    """Tell this address of the end of every queued request that comes with the key."""
    from server.accounts.keys import KeyRing

    _check(url)
    with database() as engine:
        prefix, secret = KeyRing(engine).set_webhook(key, url)
    typer.echo(f"Requests of {prefix}… are reported to {url}, signed with {secret}")


@app.command("remove")
def remove_webhook(key: Key) -> None:
    """Tell nobody any more, unless a request itself names an address."""
    from server.accounts.keys import KeyRing

    with database() as engine:
        prefix, _ = KeyRing(engine).set_webhook(key, None)
    typer.echo(f"Requests of {prefix}… are reported to nobody.")


@app.command("secret")
def show_secret(key: Key) -> None:
    """The secret with which a receiver checks signatures (Standard Webhooks)."""
    from server.accounts.keys import KeyRing

    with database() as engine:
        _, secret = KeyRing(engine).secret_of(key)
    typer.echo(secret)


@app.command("test")
def send_test(
    url: Url,
    key: Annotated[
        str | None, typer.Option(help="Sign with this key's secret; else with a made-up one.")
    ] = None,
) -> None:
    """Send a made-up event to an address, with the tries and limits of real ones."""
    import asyncio
    import base64
    import secrets
    import uuid
    from datetime import UTC, datetime

    from server.accounts.keys import KeyRing
    from server.api.pictures import reach_of
    from server.api.webhooks import DeliveryFailed, WebhookSender, event_body
    from server.settings import read_settings

    _check(url)
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    if key is not None:
        with database() as engine:
            _, secret = KeyRing(engine).secret_of(key)
    sender = WebhookSender(reach_of(read_settings()))
    data: dict[str, object] = {"status": "COMPLETED", "output": None, "images": []}
    body = event_body("request.test", data, datetime.now(UTC))
    try:
        asyncio.run(sender.send(url, secret, f"msg_{uuid.uuid4().hex}", body))
    except DeliveryFailed as error:
        raise OperatorError(f"{url}: {error}") from error
    typer.echo(f"{url} took it; it was signed with {secret}")


def _check(url: str) -> None:
    from server.api.urls import ImpossibleUrl, http_url

    try:
        http_url(url)
    except ImpossibleUrl as error:
        raise UsageError(f"{url} should be an http:// or https:// address.") from error
