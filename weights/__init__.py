"""Which files a profile needs, where from, and their hashes; and the embedded `tiny` set."""
