"""Which files a profile needs, where they come from, their hashes; and the embedded `tiny` set."""
