"""Publishing: ticks are encoded, batched, sent in order, and buffered on disk while Kafka is away."""
