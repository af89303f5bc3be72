"""`face-detailer keys …` and `face-detailer credits …`."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from server.errors import OperatorError

if TYPE_CHECKING:
    from decimal import Decimal

    from sqlalchemy import Engine

keys_app = typer.Typer(help="API keys.", no_args_is_help=True)
credits_app = typer.Typer(help="What accounts have left.", no_args_is_help=True)


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Option(help="Whose key it is, for the lists.")] = "unnamed",
    credits_: Annotated[
        str | None, typer.Option("--credits", help="What the new account has.")
    ] = None,
    unlimited: Annotated[bool, typer.Option("--unlimited", help="The account never pays.")] = False,
    account: Annotated[
        int | None, typer.Option(help="No new account: a further key to this one.")
    ] = None,
) -> None:
    """Make a key, by default with a new account of its own; it is shown only now."""
    from server.keys import KeyRing

    given = [credits_ is not None, unlimited, account is not None]
    if sum(given) != 1:
        raise OperatorError("Say one of --credits N, --unlimited and --account ID.")
    with _database() as engine:
        keys = KeyRing(engine)
        if account is not None:
            key = keys.create_further(name, account)
        else:
            key = keys.create_account(name, None if credits_ is None else _decimal(credits_))
    typer.echo(f"The new key, shown only now: {key}")


@keys_app.command("list")
def list_keys() -> None:
    """All keys: their first characters, never the rest."""
    from datetime import UTC, datetime

    from server.cli_tables import new_table, print_table
    from server.keys import KeyRing

    with _database() as engine:
        keys = KeyRing(engine).infos()
    table = new_table("key", "name", "account", "created (UTC)", "state")
    for key in keys:
        created = datetime.fromtimestamp(key.created_s, UTC).strftime("%Y-%m-%d %H:%M")
        state = "revoked" if key.revoked else "valid"
        table.add_row(f"{key.prefix}…", key.name, str(key.account_id), created, state)
    print_table(table)


@keys_app.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="The key, or its first characters.")],
) -> None:
    """Make a key invalid for ever, at once; its account stays."""
    from server.keys import KeyRing

    with _database() as engine:
        prefix = KeyRing(engine).revoke(key)
    typer.echo(f"Revoked {prefix}…")


@credits_app.command("add")
def add_credits(
    account: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="Its number, or a key's first characters.")
    ],
    amount: Annotated[str, typer.Argument(metavar="N", help="Credits.")],
) -> None:
    """Give an account more credits."""
    from server.keys import KeyRing
    from server.ledger import Ledger

    with _database() as engine:
        account_id = int(account) if account.isdecimal() else KeyRing(engine).account_of(account)
        info = Ledger(engine).add(account_id, _decimal(amount))
    typer.echo(f"Account {info.id} ({info.name}) has {info.balance:f} credits.")


@credits_app.command("show")
def show_credits() -> None:
    """What every account has left."""
    from server.cli_tables import new_table, print_table
    from server.ledger import Ledger

    with _database() as engine:
        accounts = Ledger(engine).accounts()
    table = new_table("account", "name", "credits", "held by running calls")
    for account in accounts:
        balance = "unlimited" if account.unlimited else f"{account.balance:f}"
        table.add_row(str(account.id), account.name, balance, f"{account.held:f}")
    print_table(table)


@contextlib.contextmanager
def _database() -> "Iterator[Engine]":
    from server.database import open_database
    from server.settings import read_settings

    engine = open_database(read_settings())
    try:
        yield engine
    finally:
        engine.dispose()


def _decimal(text: str) -> "Decimal":
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(text)
    except InvalidOperation:
        raise OperatorError(f"Credits should be a number, got {text}.") from None
