"""Show the progress of a job to any number of watchers. A watcher that arrives late gets the current state at once.

    python examples/uses/progress.py
    curl -d steps=50 http://127.0.0.1:8080/jobs                          # prints the path: /jobs/1
    curl -d steps=50 -d fail=7 http://127.0.0.1:8080/jobs                # fails at step 7
    curl -N http://127.0.0.1:8080/jobs/1                                 # exit code 18 if the job failed
    chunkwise get http://127.0.0.1:8080/jobs/1                           # exit code 4, and the reason

In a browser:

    const source = new EventSource("/jobs/1")
    source.onmessage = ({data}) => {
        const job = JSON.parse(data)
        progress.max = job.of
        progress.value = job.done
        if (job.state !== "running") source.close()      // otherwise the browser connects again
    }

The feed ends when the job ends. If the job fails, the feed fails too, after a last state with the reason, so no client
mistakes it for a success. A slow reader misses some states, but never the last one, and does not slow down the job.
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
    """A job and its current state."""

    def __init__(self, steps: int, fail: int) -> None:
        self.state: dict[str, object] = {"state": "running", "done": 0, "of": steps, "error": None}
        self.task = asyncio.create_task(self._run(steps, fail))
        self._changed = asyncio.Event()

    async def states(self) -> AsyncIterator[dict[str, object]]:
        """Yield the current state now and after each change; raise if the job has failed."""
        while True:
            changed, state = self._changed, self.state
            yield state
            if state["state"] == "failed":
                raise web.HTTPInternalServerError(text=f"the job failed: {state['error']}")
            if state["state"] == "finished":
                return
            await changed.wait()

    def _change(self, **changes: object) -> None:
        self.state = {**self.state, **changes}
        # All watchers wake up and send the new state. Then they wait for the next change with the Event created below.
        self._changed.set()
        self._changed = asyncio.Event()

    async def _run(self, steps: int, fail: int) -> None:
        try:
            for step in range(1, steps + 1):
                await asyncio.sleep(0.1)  # this pause stands for real work
                if step == fail:
                    msg = f"step {step} failed"
                    raise RuntimeError(msg)
                self._change(done=step)
        except Exception as error:  # noqa: BLE001 - any error is reported to the watchers
            self._change(state="failed", error=str(error))
        else:
            self._change(state="finished")


jobs: dict[str, Job] = {}


@routes.post("/jobs")
async def start(request: web.Request) -> web.Response:
    form = await request.post()
    try:
        steps, fail = (int(str(form.get(name, default))) for name, default in (("steps", "50"), ("fail", "0")))
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    if sum(not job.task.done() for job in jobs.values()) >= MAX_RUNNING:
        raise web.HTTPTooManyRequests(text=f"{MAX_RUNNING} jobs are running: try again later")
    # Remove the oldest job that has ended. There is one, because KEPT_JOBS is greater than MAX_RUNNING.
    while len(jobs) >= KEPT_JOBS:
        del jobs[next(name for name, job in jobs.items() if job.task.done())]
    name = str(int(next(reversed(jobs), "0")) + 1)
    jobs[name] = Job(steps, fail)
    return web.Response(status=201, text=f"/jobs/{name}\n", headers={"Location": f"/jobs/{name}"})


@routes.get("/jobs/{name}")
async def watch(request: web.Request) -> web.StreamResponse:
    job = jobs.get(request.match_info["name"])
    if job is None:
        raise web.HTTPNotFound(text="no such job, or it has expired")
    # Keepalives are sent, because a step may take longer than proxies and clients wait for data.
    return await chunkwise.respond(request, job.states(), ["ndjson", "sse", "json"], keepalive_seconds=15)


async def cancel_jobs(app: web.Application) -> None:
    running = [job.task for job in jobs.values() if not job.task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


app = web.Application()
app.add_routes(routes)
chunkwise.setup(app, grace_seconds=1)
# on_cleanup runs after the streams of all watchers have ended, so no watcher waits for a cancelled job.
app.on_cleanup.append(cancel_jobs)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
