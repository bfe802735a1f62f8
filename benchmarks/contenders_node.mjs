// Node's http: rows of an async generator -> a JSON array. It reports to its parent process as `serving.py` does.
//
// The argument "row" makes one write() per row, as programs usually do. "piece" collects 64 KiB of text before each
// write(), which is the fastest way without other packages. Both wait for "drain" when the socket is full, as a
// streaming server must.

import { once } from "node:events"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"

const PIECE = { row: 0, piece: 65536 }[process.argv[2]]

function row(index) {
  return {
    id: index,
    name: `user ${index}`,
    mail: `user.${index}@example.org`,
    score: index / 7,
    tags: ["a", "b", "c"],
    address: { street: "Main street", number: index % 100, city: "Überlingen" },
  }
}

async function* rows(count) {
  for (let index = 0; index < count; index++) yield row(index)
}

async function respond(request, response) {
  response.writeHead(200, { "Content-Type": "application/json" })
  let before = "["
  let text = ""
  for await (const item of rows(Number(request.url.slice(1)))) {
    text += before + JSON.stringify(item)
    before = ","
    if (text.length > PIECE) {
      if (!response.write(text)) await once(response, "drain")
      text = ""
    }
  }
  response.end(text + "]")
}

function report(figures) {
  const { user, system } = process.cpuUsage()
  process.stdout.write(JSON.stringify({ ...figures, cpu_seconds: (user + system) / 1e6 }) + "\n")
}

function peakMib() {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) / 1024
  } catch {
    return process.resourceUsage().maxRSS / 1024
  }
}

const server = createServer(respond)
server.listen({ host: "127.0.0.1", port: 0, backlog: 1024 }, () => {
  report({ port: server.address().port, resident_mib: process.memoryUsage().rss / 2 ** 20 })
})
process.stdin.on("end", () => {
  report({ peak_mib: peakMib() })
  process.exit(0)
})
process.stdin.resume()
