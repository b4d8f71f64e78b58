"""Is all there that a run needs? Each check says ok, or what to do; none changes anything."""
