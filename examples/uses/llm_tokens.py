"""Stream the tokens of a language model as server-sent events. The model pauses while no client reads, then continues.

    python examples/uses/llm_tokens.py                                      # a page at http://127.0.0.1:8080/
    curl -d 'prompt=What do you promise?' http://127.0.0.1:8080/answers     # prints the path: /answers/ID
    curl -N http://127.0.0.1:8080/answers/ID                                # Ctrl-C also stops the model
    curl -N -H 'Last-Event-ID: 7' http://127.0.0.1:8080/answers/ID          # all tokens after token 7
    chunkwise get http://127.0.0.1:8080/answers/ID                          # continues after a disconnect

A browser's EventSource reconnects with the id of the last event that it has. A model picks tokens at random, so the
server keeps the tokens that it has sent: the client continues the same answer. If a client already has the whole
answer, it gets the status 204, after which an EventSource does not reconnect.
"""

import asyncio
import os
import random
import re
import secrets
from collections.abc import AsyncIterator, Sequence
from itertools import count, pairwise

from aiohttp import web

import chunkwise
from chunkwise.formats.sse import ServerSentEvent

KEPT_ANSWERS = 1000
MAX_TOKENS = 40
WORDS = re.findall(
    r"\S+",
    """A stream that ends is complete. Nothing that arrived is lost. Nothing is unbounded. The first item is sent at
    once. A slow reader slows the producer. A failed stream never looks complete. Items that arrived before an error
    are delivered before the error is raised. No item waits for a later one. Items are sent as soon as the producer
    waits. A slow reader slows its own stream and nothing else. The first error is reported.""",
)
PAGE = """<!doctype html><meta charset="utf-8"><title>Tokens</title>
<form><input name="prompt" value="What do you promise?"> <button>Ask</button> <button type="button">Stop</button></form>
<p></p><small></small>
<script>
const [form, text, state] = ["form", "p", "small"].map((name) => document.querySelector(name))
let source
const end = (why) => { source?.close(); state.textContent = why }
form.onsubmit = async (event) => {
  event.preventDefault()
  end(text.textContent = "")
  const asked = await fetch("/answers", {method: "POST", body: new URLSearchParams(new FormData(form))})
  source = new EventSource(asked.headers.get("Location"))
  source.onmessage = ({data}) => text.append(JSON.parse(data).token)
  source.addEventListener("done", () => end("done"))
  source.onerror = () => { state.textContent = source.readyState === source.CLOSED ? "failed" : "reconnecting" }
}
form.querySelector("[type=button]").onclick = () => end("stopped")
</script>"""

routes = web.RouteTableDef()


async def next_token(prompt: str, tokens: Sequence[str]) -> str | None:
    """Replace this with your model. It returns the token after the prompt and the tokens so far, or None at the end."""
    await asyncio.sleep(0.1)
    last = (tokens or prompt.split() or [""])[-1].strip()
    if len(tokens) >= MAX_TOKENS or (len(tokens) >= MAX_TOKENS / 2 and last.endswith(".")):
        return None
    following = [after for word, after in pairwise(WORDS) if word == last]
    return f"{' ' * bool(tokens)}{random.choice(following or WORDS)}"  # noqa: S311 - the tokens are no secret


class Answer:
    """The tokens that the model has produced for a prompt."""

    def __init__(self, name: str, prompt: str) -> None:
        self.tokens: list[str] = []
        self.complete = False
        self._name = name
        self._prompt = prompt
        # Without this lock, the model would produce a token twice if two clients wait for the same one.
        self._model = asyncio.Lock()

    async def token(self, index: int) -> str | None:
        """Return the token with this index, from the model if it is not produced yet; None after the last token."""
        async with self._model:
            if index == len(self.tokens) and not self.complete:
                # If the client disconnects, this call is cancelled, so the model stops.
                token = await next_token(self._prompt, self.tokens)
                print(f"{self._name} token {index}", flush=True)
                if token is None:
                    self.complete = True
                else:
                    self.tokens.append(token)
        return self.tokens[index] if index < len(self.tokens) else None

    async def events(self, start: int) -> AsyncIterator[object]:
        """Yield the tokens from an index on, then the event "done", because EventSource reports no end of its own."""
        if start > len(self.tokens):
            if self.complete:
                return  # the client has all events already: the response has no events, and gets the status 204
            raise web.HTTPBadRequest(text=f"expected the index of a token, at most {len(self.tokens)}, got {start}")
        for index in count(start):
            token = await self.token(index)
            if token is None:
                break
            yield {"token": token}
        yield ServerSentEvent(event="done", data=f'{{"tokens": {len(self.tokens)}}}')


answers: dict[str, Answer] = {}


@routes.post("/answers")
async def ask(request: web.Request) -> web.Response:
    name = secrets.token_urlsafe(8)  # a random name, so other clients cannot guess it and read the answer
    # Only the newest answers are kept, so that memory is bounded.
    while len(answers) >= KEPT_ANSWERS:
        del answers[next(iter(answers))]
    answers[name] = Answer(name, str((await request.post()).get("prompt", "")))
    return web.Response(status=201, text=f"/answers/{name}\n", headers={"Location": f"/answers/{name}"})


@routes.get("/answers/{name}")
async def answer(request: web.Request) -> web.StreamResponse:
    found = answers.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound(text="no such answer, or it has expired")
    return await chunkwise.respond(request, chunkwise.resumable(found.events), "sse")


@routes.get("/")
async def page(request: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


def ended(request: web.Request, outcome: chunkwise.Outcome) -> None:
    print(request.match_info["name"], outcome.end, flush=True)


app = web.Application()
app.add_routes(routes)
chunkwise.setup(app, grace_seconds=1, on_outcome=ended)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
