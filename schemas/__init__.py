"""Formats: what a message, a galaxy, a catalogue row and an exception look like. Knows no model, no Kafka, no table."""
