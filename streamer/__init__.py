"""Moves batches from Kafka to the table exactly once, and everything that watches, replays or commands it."""
