"""`python -m pipeline` is `gigawatch`."""

from pipeline.cli import main

main()
