"""`face-detailer keys …`."""

from typing import Annotated

import typer

from server.cli.accounts import database, parse_amount
from server.errors import UsageError

app = typer.Typer(help="API keys.", no_args_is_help=True)


@app.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="Whose key it is; shown in lists.")] = "unnamed",
    credits_: Annotated[
        str | None, typer.Option("--credits", help="The new account's credits.")
    ] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="The account never pays.")] = False,
    account: Annotated[
        int | None, typer.Option(help="Another key for this account instead of a new account.")
    ] = None,
) -> None:
    """Make a key, by default with a new account; the key is shown only this once."""
    from server.accounts.keys import KeyRing

    given = [credits_ is not None, unlimited, account is not None]
    if sum(given) != 1:
        raise UsageError("Give exactly one of --credits N, --unlimited and --account ID.")
    with database() as engine:
        keys = KeyRing(engine)
        if account is not None:
            key = keys.create_further(name, account)
        else:
            key = keys.create_account(name, None if credits_ is None else parse_amount(credits_))
    typer.echo(f"The new key, shown only now: {key}")


@app.command("list")
def list_keys() -> None:
    """List all keys by their first characters; the rest is not kept."""
    from datetime import UTC, datetime

    from server.accounts.keys import KeyRing
    from server.cli.tables import print_table

    with database() as engine:
        keys = KeyRing(engine).infos()
    rows = []
    for key in keys:
        created = datetime.fromtimestamp(key.created_s, UTC).strftime("%Y-%m-%d %H:%M")
        state = "revoked" if key.revoked else "valid"
        rows.append((f"{key.prefix}…", key.name, str(key.account_id), created, state))
    print_table(("key", "name", "account", "created (UTC)", "state"), rows)


@app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The key, or its first characters.")],
) -> None:
    """Revoke a key at once and for good; its account stays."""
    from server.accounts.keys import KeyRing

    with database() as engine:
        prefix = KeyRing(engine).revoke(key)
    typer.echo(f"Revoked {prefix}…")
