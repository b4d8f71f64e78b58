"""Writer schemas from a schema registry: asked once for each id, remembered for ever."""
