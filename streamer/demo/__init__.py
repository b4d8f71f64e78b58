"""A night on a laptop: everything real but the sky."""
