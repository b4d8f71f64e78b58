"""Parquet files as the catalogue's tables have them: by pyarrow, but for the one column that would take most of the time."""
