"""chunkwise: the streaming layer for aiohttp."""
