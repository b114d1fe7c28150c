"""NVIDIA DSX Exchange: the building's points."""
