"""A page for the person on shift, and the exporter of lag: `slipher monitor`."""
