"""Read WebSocket messages with another library, websockets. The close reason has the number of items.

pip install websockets
python examples/clients/websocket.py [URL]
"""

import asyncio
import sys

from websockets.asyncio.client import connect

URL = "ws://127.0.0.1:8080/ws"


async def main(url: str) -> None:
    async with connect(url, proxy=None) as websocket:
        async for message in websocket:
            print(message, flush=True)
        print("closed:", websocket.close_code, websocket.close_reason)


asyncio.run(main(*sys.argv[1:] or [URL]))
