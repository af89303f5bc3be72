"""Who may call and what they pay: database, keys, ledger, and the service over them."""
