"""From decoded galaxies to catalogue rows, with a model."""
