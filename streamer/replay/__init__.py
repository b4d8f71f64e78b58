"""Nights run again: which offsets, how fast, and beside whom."""
