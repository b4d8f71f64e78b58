"""A simulated sky: galaxies with known physics, as a survey would see them."""
