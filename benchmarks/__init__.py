"""Benchmarks: ``python -m benchmarks NAME [--json] [--quick]``. Figures in the docs come from here and nowhere else."""
