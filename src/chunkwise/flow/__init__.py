"""Source -> batches -> bytes (`outbound`), and bytes -> batches -> items (`inbound`). Async, without a network."""
