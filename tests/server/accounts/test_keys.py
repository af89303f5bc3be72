"""Keys, on real databases of both kinds."""

from decimal import Decimal

import pytest
from bank import Bank, run

from server.accounts.ledger import AccountsError
from server.errors import BadKey


def test_a_key_leads_to_its_account(bank: Bank) -> None:
    first, second = (bank.keys.create_account(name, Decimal(1)) for name in "ab")
    further = bank.keys.create_further("c", run(bank.accounts.authenticate(first)).id)
    mine, same, other = (run(bank.accounts.authenticate(key)) for key in (first, further, second))
    assert mine.id == same.id != other.id
    assert len({account.key_id for account in (mine, same, other)}) == 3


def test_wrong_keys_are_refused(bank: Bank) -> None:
    key = bank.keys.create_account("a", None)
    last = "0" if key[-1] != "0" else "1"
    for wrong in ("", "SG_", key[:-1], key + "0", key[:-1] + last, key.upper(), f" {key}", "ключ"):
        with pytest.raises(BadKey):
            run(bank.accounts.authenticate(wrong))


def test_a_revoked_key_is_refused_at_once_and_others_are_not(bank: Bank) -> None:
    key, other = (bank.keys.create_account("a", None) for _ in range(2))
    assert bank.keys.revoke(key[:11]) == key[:11]
    with pytest.raises(BadKey):
        run(bank.accounts.authenticate(key))
    assert run(bank.accounts.authenticate(other)).unlimited
    assert [info.revoked for info in bank.keys.infos()] == [True, False]


def test_a_key_named_in_full_must_match_in_full(bank: Bank) -> None:
    key = bank.keys.create_account("a", None)
    with pytest.raises(AccountsError, match="No key begins with"):
        bank.keys.revoke(key[:11] + "x")
    bank.keys.create_account("b", None)
    with pytest.raises(AccountsError, match="2 keys begin with SG_"):
        bank.keys.revoke("SG_")
    with pytest.raises(AccountsError, match="No key begins"):
        bank.keys.revoke("SG%")
    bank.keys.revoke(key)


def test_first_key_only_where_there_was_never_one(bank: Bank) -> None:
    key = bank.accounts.create_first_key()
    assert key is not None
    assert run(bank.accounts.authenticate(key)).unlimited
    bank.keys.revoke(key)
    assert bank.accounts.create_first_key() is None
