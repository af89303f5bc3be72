"""API keys: made, looked up, revoked. Blocking, one transaction each, safe from any thread."""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection, Engine, insert, select, update

from server.accounting import Account, KeyWebhook
from server.accounts.database import ACCOUNTS, KEYS, exclusive
from server.accounts.holds import book, now_s
from server.accounts.ledger import AccountsError, ImpossibleValue, check_account_id, to_units
from server.errors import BadKey

# "SG_" and 8 of the 40 random hex digits are shown in lists: 128 bits stay secret.
_KEY_BYTES = 20
_PREFIX_LENGTH = 11
# What Standard Webhooks recommends: 24 to 64 bytes.
_SECRET_BYTES = 32
_LONGEST_NAME = 200
_KEY = re.compile(r"SG_[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key as an operator sees it: `prefix` is all that is shown. `created_s`: Unix seconds."""

    prefix: str
    name: str
    account_id: int
    revoked: bool
    created_s: int


class KeyRing:
    """The keys of one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(read_only=True)

    def create_account(self, name: str, amount: Decimal | None) -> str:
        """A new account's key, which is kept nowhere. `amount` None: unlimited.

        Raises:
            AccountsError: `amount` is no sum that can be kept, or `name` is no name.
        """
        _check_name(name)
        with self._engine.begin() as connection:
            return _create_account(connection, name, amount)

    def create_first(self) -> str | None:
        """An unlimited account's key where there is no key at all, not even a revoked one."""
        with exclusive(self._engine) as connection:
            if connection.scalar(select(KEYS.c.id).limit(1)) is not None:
                return None
            return _create_account(connection, "first start", None)

    def create_further(self, name: str, account_id: int) -> str:
        """A further key to an account, say, to replace one.

        Raises:
            AccountsError: there is no such account, or `name` is no name.
        """
        _check_name(name)
        check_account_id(account_id)
        with self._engine.begin() as connection:
            query = select(ACCOUNTS.c.id).where(ACCOUNTS.c.id == account_id)
            if connection.scalar(query) is None:
                raise AccountsError(f"There is no account {account_id}.")
            return _create_key(connection, name, account_id)

    def infos(self) -> list[KeyInfo]:
        """All keys, oldest first."""
        query = select(
            KEYS.c.prefix, KEYS.c.name, KEYS.c.account_id, KEYS.c.revoked, KEYS.c.created_s
        ).order_by(KEYS.c.id)
        with self._reader.begin() as connection:
            return [KeyInfo(*row) for row in connection.execute(query)]

    def account_of(self, beginning: str) -> int:
        """The account of the one key that begins like this, revoked or not.

        Raises:
            AccountsError: no key begins like this, or several do.
        """
        with self._reader.begin() as connection:
            return _find(connection, beginning)[1]

    def revoke(self, beginning: str) -> str:
        """Make the one key that begins like this invalid for ever; its visible part.

        Raises:
            AccountsError: no key begins like this, or several do.
        """
        with self._engine.begin() as connection:
            key_id, _, prefix = _find(connection, beginning)
            connection.execute(update(KEYS).where(KEYS.c.id == key_id).values(revoked=True))
        return prefix

    def set_webhook(self, beginning: str, url: str | None) -> tuple[str, str]:
        """Whom to tell of the end of every stored job that comes with this key; None: nobody.

        Returns:
            The key's visible part, and the secret by which deliveries are signed.

        Raises:
            AccountsError: no key begins like this, or several do.
        """
        with self._engine.begin() as connection:
            key_id, _, prefix = _find(connection, beginning)
            connection.execute(update(KEYS).where(KEYS.c.id == key_id).values(webhook_url=url))
            return prefix, _secret(connection, key_id)

    def secret_of(self, beginning: str) -> tuple[str, str]:
        """The visible part of the one key that begins like this, and its webhooks' secret.

        Raises:
            AccountsError: no key begins like this, or several do.
        """
        with self._engine.begin() as connection:
            key_id, _, prefix = _find(connection, beginning)
            return prefix, _secret(connection, key_id)

    def webhook(self, key_id: int) -> KeyWebhook:
        """Where the ends of a key's stored jobs are told."""
        query = (
            select(KEYS.c.webhook_url, ACCOUNTS.c.id, ACCOUNTS.c.unlimited)
            .join(ACCOUNTS, ACCOUNTS.c.id == KEYS.c.account_id)
            .where(KEYS.c.id == key_id)
        )
        with self._engine.begin() as connection:
            url, account_id, unlimited = connection.execute(query).one()
            account = Account(account_id, unlimited, key_id)
            return KeyWebhook(url, _secret(connection, key_id), account)

    def authenticate(self, key: str) -> Account:
        """Whose key this is.

        Raises:
            BadKey: unknown or revoked.
        """
        if not _KEY.fullmatch(key):
            raise BadKey
        query = (
            select(KEYS.c.sha256, KEYS.c.id, ACCOUNTS.c.id, ACCOUNTS.c.unlimited)
            .join(ACCOUNTS, ACCOUNTS.c.id == KEYS.c.account_id)
            .where(KEYS.c.prefix == key[:_PREFIX_LENGTH], KEYS.c.revoked.is_(False))
        )
        with self._reader.begin() as connection:
            rows = connection.execute(query).all()
        digest = _hash(key)
        for sha256, key_id, account_id, unlimited in rows:
            if hmac.compare_digest(sha256, digest):
                return Account(account_id, unlimited, key_id)
        raise BadKey


def _secret(connection: Connection, key_id: int) -> str:
    """A key's secret, made when it is first needed."""
    own = KEYS.c.id == key_id
    # Where another server made one at the same moment, that one counts.
    fresh = f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
    unset = own & KEYS.c.webhook_secret.is_(None)
    connection.execute(update(KEYS).where(unset).values(webhook_secret=fresh))
    secret = connection.scalars(select(KEYS.c.webhook_secret).where(own)).one()
    return secret or fresh


def _hash(key: str) -> str:
    # Keys are random, not chosen: a slow hash would add nothing.
    return hashlib.sha256(key.encode()).hexdigest()


def _check_name(name: str) -> None:
    # Nor is half a surrogate pair printable, which stands for a broken byte of a command line.
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ImpossibleValue(
            f"A name should have at most {_LONGEST_NAME} characters, all of them printable."
        )


def _create_account(connection: Connection, name: str, amount: Decimal | None) -> str:
    units = 0 if amount is None else to_units(amount)
    row = {
        "name": name,
        "unlimited": amount is None,
        "balance_units": units,
        "held_units": 0,
        "created_s": now_s(),
    }
    query = insert(ACCOUNTS).values(row).returning(ACCOUNTS.c.id)
    account_id = connection.scalars(query).one()
    book(connection, account_id, units, "created")
    return _create_key(connection, name, account_id)


def _create_key(connection: Connection, name: str, account_id: int) -> str:
    key = f"SG_{secrets.token_hex(_KEY_BYTES)}"
    row = {
        "account_id": account_id,
        "name": name,
        "prefix": key[:_PREFIX_LENGTH],
        "sha256": _hash(key),
        "revoked": False,
        "created_s": now_s(),
    }
    connection.execute(insert(KEYS).values(row))
    return key


def _find(connection: Connection, beginning: str) -> tuple[int, int, str]:
    shown = beginning[:_PREFIX_LENGTH]
    if not beginning.isascii():
        raise AccountsError(f"No key begins with {shown}: name one by its first characters.")
    query = select(KEYS.c.id, KEYS.c.account_id, KEYS.c.prefix, KEYS.c.sha256).where(
        KEYS.c.prefix.startswith(shown, autoescape=True)
    )
    rows = [
        row
        for row in connection.execute(query)
        if len(beginning) <= _PREFIX_LENGTH or hmac.compare_digest(row.sha256, _hash(beginning))
    ]
    if len(rows) != 1:
        count = "No key begins" if not rows else f"{len(rows)} keys begin"
        raise AccountsError(
            f"{count} with {shown}: name one by its first {_PREFIX_LENGTH} characters."
        )
    return rows[0].id, rows[0].account_id, rows[0].prefix
