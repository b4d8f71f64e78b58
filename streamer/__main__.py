"""``python -m streamer``: the command ``slipher``, where it is not on the path."""

from streamer.cli.main import main

main()
