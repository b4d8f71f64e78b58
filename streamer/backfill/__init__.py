"""Archived packets at rest: which files, which shards, which records; through the same engine as a topic."""
