"""Source -> batches -> bytes (`outbound`), and bytes -> batches -> items (`inbound`); async, but without I/O."""
