"""The commands, one module each; loaded when they are called, so that `gigawatch --help` is quick."""
