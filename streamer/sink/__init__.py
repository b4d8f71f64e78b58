"""Where rows land once: the commit protocol over two Delta tables."""
