"""Source -> batches -> bytes (`outbound`), and bytes -> batches -> items (`inbound`). This package is async and does not use the network."""
