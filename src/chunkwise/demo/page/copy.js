// The URL of a lane -> a command and a script that read it, and a text -> the clipboard.

/** A command for a POSIX shell. */
export function asCurl(lane, url) {
  const remark = lane.websocket ? "# Over plain HTTP, the same route sends a line for each message.\n" : "";
  return `${remark}curl -N ${shellQuoted(url)}\n`;
}

/** A complete script. */
export function asPython(lane, url) {
  return lane.streamed === false ? bufferedScript(url) : streamScript(lane, url);
}

function streamScript(lane, url) {
  const imports = lane.python.type ? "\nfrom chunkwise.formats.sse import ServerSentEvent" : "";
  const options = Object.entries(lane.python).map(([name, value]) => `, ${name}=${value}`).join("");
  return `import asyncio

import chunkwise
from aiohttp import ClientSession${imports}

URL = ${pythonQuoted(lane.websocket ? url.replace(/^http/, "ws") : url)}


async def main():
    async with ClientSession() as session, chunkwise.open_stream(session, URL${options}) as stream:
        async for item in stream:
            print(item, flush=True)
        print(f"complete: {stream.items_seen} items, {stream.end}")


try:
    asyncio.run(main())
except chunkwise.StreamError as error:
    print(f"not complete: {error}")
`;
}

function bufferedScript(url) {
  return `import asyncio

from aiohttp import ClientResponseError, ClientSession

URL = ${pythonQuoted(url)}


async def main():
    async with ClientSession(raise_for_status=True) as session, session.get(URL) as response:
        print(await response.text(), end="")


try:
    asyncio.run(main())
except ClientResponseError as error:
    print(f"failed: {error.status} {error.message}")
`;
}

function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function pythonQuoted(text) {
  return JSON.stringify(text); // a URL is ASCII, which both languages quote alike
}

/**
 * Put text on the clipboard and return true. Where the browser does not allow that, for example over plain HTTP from
 * another host, show the text selected and return false.
 */
export async function copy(text, dialog) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = dialog.querySelector("textarea");
    area.value = text;
    dialog.showModal();
    area.focus();
    area.select();
    return false;
  }
}
