"""The published figures: what a machine carries, stage by stage and end to end, checked for truth and set beside its
peers.
"""
