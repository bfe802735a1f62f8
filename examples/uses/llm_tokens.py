"""The tokens of a language model as server-sent events. It stops when nobody listens, and goes on when somebody does.

    python examples/uses/llm_tokens.py                                      # a page at http://127.0.0.1:8080/
    curl -d 'prompt=What do you promise?' http://127.0.0.1:8080/answers     # says where: /answers/ID
    curl -N http://127.0.0.1:8080/answers/ID                                # Ctrl-C stops the model, too
    curl -N -H 'Last-Event-ID: 7' http://127.0.0.1:8080/answers/ID          # all behind token 7
    chunkwise get http://127.0.0.1:8080/answers/ID                          # goes on by itself where it is cut

A browser's EventSource comes back with the id of the last event that it has. Models pick tokens by chance, so those
that were made are kept: what goes on is the same answer. 204 tells who has all of it not to ask again.
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
    """A stream that ends is whole. Nothing that arrived is lost. Nothing is unbounded. The first item leaves at once.
    A slow reader slows the producer. A failed stream never looks complete. Items that came before an error are
    delivered before it is raised. No item waits for a later one. What is ready is sent the moment the producer stalls.
    Nothing that is sent waits for a slow reader. A producer that stalls is kept alive. The first error is told.""",
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
  source.onerror = () => { state.textContent = source.readyState === source.CLOSED ? "failed" : "connecting again" }
}
form.querySelector("[type=button]").onclick = () => end("stopped")
</script>"""

routes = web.RouteTableDef()


async def next_token(prompt: str, tokens: Sequence[str]) -> str | None:
    """Stand in for a model, which gets the prompt and what it has said so far: some word that may follow the last."""
    await asyncio.sleep(0.1)
    last = (tokens or prompt.split() or [""])[-1].strip()
    if len(tokens) >= MAX_TOKENS or (len(tokens) >= MAX_TOKENS / 2 and last.endswith(".")):
        return None
    following = [after for word, after in pairwise(WORDS) if word == last]
    return f"{' ' * bool(tokens)}{random.choice(following or WORDS)}"  # noqa: S311 - nobody's secret


class Answer:
    """What a model has said so far to a prompt."""

    def __init__(self, name: str, prompt: str) -> None:
        self.tokens: list[str] = []
        self.whole = False
        self._name = name
        self._prompt = prompt
        self._model = asyncio.Lock()  # two who listen to one answer hear the same

    async def token(self, index: int) -> str | None:
        """Return a token, made now if it is the next; None behind the last."""
        async with self._model:
            if index == len(self.tokens) and not self.whole:
                token = await next_token(self._prompt, self.tokens)  # cancelled here when the client leaves
                print(f"{self._name} token {index}", flush=True)
                if token is None:
                    self.whole = True
                else:
                    self.tokens.append(token)
        return self.tokens[index] if index < len(self.tokens) else None

    async def events(self, start: int) -> AsyncIterator[object]:
        """Yield the tokens from one on, and a last event: an EventSource cannot tell an end from a failure."""
        if start > len(self.tokens):
            if self.whole:
                return  # the last event was there, too: without an event, this answer is a 204
            raise web.HTTPBadRequest(text=f"there are {len(self.tokens)} tokens so far, got {start}")
        for index in count(start):
            token = await self.token(index)
            if token is None:
                break
            yield {"token": token}
        yield ServerSentEvent(event="done", data=f'{{"tokens": {len(self.tokens)}}}')


answers: dict[str, Answer] = {}


@routes.post("/answers")
async def ask(request: web.Request) -> web.Response:
    name = secrets.token_urlsafe(8)  # who does not know it cannot listen
    while len(answers) >= KEPT_ANSWERS:
        del answers[next(iter(answers))]  # the oldest
    answers[name] = Answer(name, str((await request.post()).get("prompt", "")))
    return web.Response(status=201, text=f"/answers/{name}\n", headers={"Location": f"/answers/{name}"})


@routes.get("/answers/{name}")
async def answer(request: web.Request) -> web.StreamResponse:
    found = answers.get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound(text="there is no such answer (any more)")
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
