"""Images of galaxies, made ready for networks."""
