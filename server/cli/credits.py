"""`face-detailer credits …`."""

from typing import Annotated

import typer

from server.cli.accounts import database, parse_account_id, parse_amount

app = typer.Typer(help="The credits of accounts.", no_args_is_help=True)


@app.command("add")
def add_credits(
    account: Annotated[
        str,
        typer.Argument(
            metavar="ACCOUNT",
            help="The account's number, or the first characters of one of its keys.",
        ),
    ],
    amount: Annotated[str, typer.Argument(metavar="N", help="Credits.")],
) -> None:
    """Give an account more credits."""
    from server.accounts.keys import KeyRing
    from server.accounts.ledger import Ledger
    from server.cli.texts import printable

    with database() as engine:
        account_id = parse_account_id(account)
        if account_id is None:
            account_id = KeyRing(engine).account_of(account)
        info = Ledger(engine).add(account_id, parse_amount(amount))
    typer.echo(f"Account {info.id} ({printable(info.name)}) has {info.balance:f} credits.")


@app.command("show")
def show_credits() -> None:
    """List what every account has left."""
    from server.accounts.ledger import Ledger
    from server.cli.tables import print_table

    with database() as engine:
        accounts = Ledger(engine).accounts()
    rows = []
    for account in accounts:
        balance = "unlimited" if account.unlimited else f"{account.balance:f}"
        rows.append((str(account.id), account.name, balance, f"{account.held:f}"))
    print_table(("account", "name", "credits", "held by running calls"), rows)


@app.command("audit")
def audit_credits() -> None:
    """See that every balance is the sum of its entries, and that what is set aside belongs to a
    call; exit code 1 and a sentence for each account where that is not so.
    """
    from server.accounts.audit import audit
    from server.cli.texts import printable

    with database() as engine:
        accounts, deviations = audit(engine)
    for deviation in deviations:
        typer.echo(printable(deviation))
    if deviations:
        raise typer.Exit(1)
    typer.echo(f"{accounts} accounts: every balance is the sum of its entries.")
