"""The progress of a job, for as many as want to watch it: who comes late gets the last state at once.

    python examples/uses/progress.py
    curl -d steps=50 http://127.0.0.1:8080/jobs                          # says where: /jobs/1; fail=7 fails at step 7
    curl -N http://127.0.0.1:8080/jobs/1                                 # exit 18 if the job has failed
    chunkwise get http://127.0.0.1:8080/jobs/1                           # exit 4, and the reason

In a browser:

    const source = new EventSource("/jobs/1")
    source.onmessage = ({data}) => {
        const job = JSON.parse(data)
        progress.max = job.of
        progress.value = job.done
        if (job.state !== "running") source.close()      // or it connects again
    }

The feed ends with the job, and fails with it: the last state says why, and the stream is cut, so that no client takes
it for the feed of a job that went well. No state waits for a slow reader: it misses some, but never the last.
"""

import asyncio
import os
from collections.abc import AsyncIterator

from aiohttp import web

import chunkwise

KEPT_JOBS = 1000
MAX_RUNNING = 20

routes = web.RouteTableDef()


class Job:
    """The last state of a job, and its watchers."""

    def __init__(self, steps: int, fail: int) -> None:
        self.state: dict[str, object] = {"state": "running", "done": 0, "of": steps, "error": None}
        self.task = asyncio.create_task(self._run(steps, fail))
        self._news = asyncio.Event()

    async def states(self) -> AsyncIterator[dict[str, object]]:
        """Yield the last state, and then what is the last whenever there is news."""
        while True:
            news, state = self._news, self.state
            yield state
            if state["state"] == "failed":
                raise web.HTTPInternalServerError(text=f"the job has failed: {state['error']}")
            if state["state"] == "finished":
                return
            await news.wait()

    def _tell(self, **news: object) -> None:
        self.state = {**self.state, **news}
        self._news.set()  # for all who wait; who comes later waits for the next
        self._news = asyncio.Event()

    async def _run(self, steps: int, fail: int) -> None:
        try:
            for step in range(1, steps + 1):
                await asyncio.sleep(0.1)  # the work
                if step == fail:
                    msg = f"step {step} went wrong"
                    raise RuntimeError(msg)
                self._tell(done=step)
        except Exception as error:  # noqa: BLE001 - whatever it is, the watchers are told
            self._tell(state="failed", error=str(error))
        else:
            self._tell(state="finished")


jobs: dict[str, Job] = {}


@routes.post("/jobs")
async def start(request: web.Request) -> web.Response:
    form = await request.post()
    try:
        steps, fail = (int(str(form.get(name, default))) for name, default in (("steps", "50"), ("fail", "0")))
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    if sum(not job.task.done() for job in jobs.values()) >= MAX_RUNNING:
        raise web.HTTPTooManyRequests(text=f"{MAX_RUNNING} jobs are running")
    while len(jobs) >= KEPT_JOBS:  # more than can be running: forget the oldest that is not
        del jobs[next(name for name, job in jobs.items() if job.task.done())]
    name = str(int(next(reversed(jobs), "0")) + 1)
    jobs[name] = Job(steps, fail)
    return web.Response(status=201, text=f"/jobs/{name}\n", headers={"Location": f"/jobs/{name}"})


@routes.get("/jobs/{name}")
async def watch(request: web.Request) -> web.StreamResponse:
    job = jobs.get(request.match_info["name"])
    if job is None:
        raise web.HTTPNotFound(text="there is no such job (any more)")
    # A step may take longer than proxies and clients wait for a sign of life.
    return await chunkwise.respond(request, job.states(), ["ndjson", "sse", "json"], keepalive_seconds=15)


async def cancel_jobs(app: web.Application) -> None:
    running = [job.task for job in jobs.values() if not job.task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


app = web.Application()
app.add_routes(routes)
chunkwise.setup(app, grace_seconds=1)
app.on_cleanup.append(cancel_jobs)  # when the feeds have ended

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
