"""From customers to probabilities: batches, refusals, and the circuit breaker."""
