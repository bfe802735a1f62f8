"""Room 3: how streams cross the network. The only room of the library that imports aiohttp."""
