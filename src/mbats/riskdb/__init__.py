"""The risk database: what was run, what it did, and what it cost."""
