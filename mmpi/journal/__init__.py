"""The journal: what the engine was told and what it answered, in bounded segments of checked records."""
