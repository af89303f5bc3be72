"""The work: a bounded queue and one worker process per device."""
