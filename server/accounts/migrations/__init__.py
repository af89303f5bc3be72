"""The database's versions, oldest first; `server.accounts.database` walks them at every start."""
