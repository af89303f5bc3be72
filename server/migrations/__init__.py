"""The database's versions, oldest first; `server.database` walks them at every start."""
