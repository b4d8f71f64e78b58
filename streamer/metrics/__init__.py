"""Metrics: what is counted and measured, how it is served, whether a worker is alive and ready."""
