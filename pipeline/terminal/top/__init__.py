"""The factory in a terminal, to be walked through with keys."""
