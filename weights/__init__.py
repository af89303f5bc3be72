"""Which files a profile needs, where they come from and what they must hash to; and the embedded `tiny` set."""
