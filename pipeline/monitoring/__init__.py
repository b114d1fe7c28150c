"""What each process reports of itself: status file, metrics, health, and the HTTP server for them."""
