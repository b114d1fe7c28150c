"""SQL of the larger boards, a file each."""
