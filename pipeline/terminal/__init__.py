"""The terminal: tables, the overview, and `gigawatch top`."""
