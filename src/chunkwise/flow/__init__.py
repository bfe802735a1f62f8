"""Room 2: source -> batches -> bytes (`outbound`), and bytes -> batches -> items (`inbound`). Async, but no network."""
