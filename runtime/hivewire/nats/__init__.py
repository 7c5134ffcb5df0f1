"""The distributed runtime: agents as virtual actors over NATS and JetStream."""
