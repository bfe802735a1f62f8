"""The subjects of the benchmarks with their contenders, and the questions with their targets, as data.

`__main__` measures the subjects and prints the verdicts on the questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks import (
    contenders_decoding,
    contenders_document,
    contenders_events,
    contenders_latency,
    contenders_postgres,
    contenders_rows,
    contenders_websocket,
)
from benchmarks.contender import Contender


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A task, and the contenders that perform it. Each round measures all of them, one after the other.

    Attributes:
        title: the title of the subject's table.
        contenders: the contenders.
        count: the size of the task (rows, events, ...) in a full run.
        quick_count: the size in a quick run.
        warm_part: the size of the warm-up before the measurement, as a fraction of the size of the task.
        shows: the name and the unit of the figure that the table shows instead of seconds; None for seconds.
        of_postgres: whether the contenders need a PostgreSQL server (see `postgres`).
    """

    title: str
    contenders: Sequence[Contender]
    count: int
    quick_count: int
    warm_part: float = 0.1
    shows: tuple[str, str] | None = None
    of_postgres: bool = False


SUBJECTS = (
    Subject(title="rows as a JSON array", contenders=contenders_rows.ARRAY, count=200_000, quick_count=20_000),
    Subject(title="nested document of rows", contenders=contenders_document.DOCUMENT, count=20_000, quick_count=4_000),
    Subject(title="server-sent events", contenders=contenders_events.SENT, count=100_000, quick_count=10_000),
    Subject(title="WebSocket", contenders=contenders_websocket.WEBSOCKET, count=200_000, quick_count=20_000),
    Subject(
        title="items of a document, as an aiohttp client",
        contenders=[*contenders_decoding.DICTS, *contenders_decoding.TYPED, *contenders_decoding.PATHS],
        count=200_000,
        quick_count=20_000,
    ),
    Subject(title="reading server-sent events", contenders=contenders_events.READ, count=100_000, quick_count=10_000),
    Subject(title="one large event, MB", contenders=contenders_events.LARGE, count=8, quick_count=8, warm_part=0.125),
    Subject(
        title="pings beside two fast streams of rows",
        contenders=contenders_latency.HOT,
        count=600_000,
        quick_count=50_000,
        shows=("p99_ms", "ms"),
    ),
    Subject(
        title="idle streams",
        contenders=contenders_latency.SILENT,
        count=5_000,
        quick_count=1_000,
        warm_part=0,
        shows=("kib_each", "KiB each"),
    ),
    Subject(
        title="first byte, requests",
        contenders=contenders_latency.FIRST,
        count=3_000,
        quick_count=500,
        shows=("first_byte_ms", "ms"),
    ),
    Subject(
        title="a table of PostgreSQL as NDJSON",
        contenders=contenders_postgres.TABLE,
        count=1_000_000,
        quick_count=50_000,
        of_postgres=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A comparison of chunkwise with another contender, or with a fixed figure, and its target.

    Attributes:
        text: the question.
        ours: the name of chunkwise's contender.
        rival: the name of the other contender; None to compare chunkwise's own figure with the target.
        bound: the target, a ratio or a figure.
        direction: how a value is compared with the target. "at least": the value is rival / chunkwise, and must be at
            least the target. "at most": the value is chunkwise / rival, or chunkwise's figure if there is no rival,
            and must be at most the target. In both cases a smaller figure of chunkwise is better.
        figure: the name of the figure: ``seconds``, ``growth_mib`` of the server, or another figure of the client.
        unit: the unit of the target.
    """

    text: str
    ours: str
    rival: str | None
    bound: float
    direction: Literal["at least", "at most"] = "at least"
    figure: str = "seconds"
    unit: str = "x"


def _rows(text: str, rival: str, bound: float) -> Question:
    return Question(text=f"rows as JSON array, against {text}", ours=contenders_rows.OURS, rival=rival, bound=bound)


def _dicts(text: str, rival: str, bound: float) -> Question:
    return Question(
        text=f"dicts at items.item, against {text}", ours=contenders_decoding.OURS, rival=rival, bound=bound
    )


def _memory_of_rows(way: str, ours: str) -> Question:
    return Question(
        text=f"rows of PostgreSQL by {way}: memory of the server",
        ours=ours,
        rival=None,
        bound=64,
        direction="at most",
        figure="growth_mib",
        unit=" MiB",
    )


def _rows_of_postgres(text: str, rival: str, bound: float) -> Question:
    return Question(
        text=f"rows of PostgreSQL by table(), against {text}", ours=contenders_postgres.BY_KEY, rival=rival, bound=bound
    )


QUESTIONS = (
    _rows("FastAPI JSON Lines", contenders_rows.FASTAPI, 12),
    _rows("Starlette StreamingResponse with orjson a row", contenders_rows.STARLETTE, 6),
    _rows("aiohttp, write(json.dumps(row)) a row", contenders_rows.WRITE_A_ROW, 8),
    _rows("aiohttp buffered web.Response(orjson.dumps(all))", contenders_rows.BUFFERED, 2),
    Question(
        text="... the same, memory of the server",
        ours=contenders_rows.OURS,
        rival=contenders_rows.BUFFERED,
        bound=10,
        figure="growth_mib",
    ),
    _rows("the bare loop without HTTP (limit)", contenders_rows.BARE_LOOP, 0.7),
    Question(
        text="nested document, against a write for each scalar",
        ours=contenders_document.NESTED,
        rival=contenders_document.WRITE_A_SCALAR,
        bound=100,
    ),
    Question(
        text="SSE of small events, against FastAPI",
        ours=contenders_events.OURS,
        rival=contenders_events.FASTAPI,
        bound=8,
    ),
    Question(
        text="SSE of small events, against sse-starlette",
        ours=contenders_events.OURS,
        rival=contenders_events.SSE_STARLETTE,
        bound=8,
    ),
    Question(
        text="WebSocket in batches, against aiohttp send_str an item",
        ours=contenders_websocket.BATCHES,
        rival=contenders_websocket.SEND_STR,
        bound=8,
    ),
    _dicts("ijson items_async(use_float=True)", contenders_decoding.IJSON, 2.5),
    _dicts("ijson push", contenders_decoding.IJSON_PUSH, 6),
    Question(
        text="Structs of all fields, against ijson items_async",
        ours=contenders_decoding.STRUCTS,
        rival=contenders_decoding.IJSON,
        bound=3.5,
    ),
    Question(
        text="Structs of two fields, against ijson items_async",
        ours=contenders_decoding.STRUCTS_OF_TWO,
        rival=contenders_decoding.IJSON,
        bound=6,
    ),
    Question(
        text="items.item.id, against ijson", ours=contenders_decoding.IDS, rival=contenders_decoding.IJSON_IDS, bound=6
    ),
    Question(
        text="a path that skips nearly all, against ijson",
        ours=contenders_decoding.SKIPS,
        rival=contenders_decoding.IJSON_SKIPS,
        bound=9,
    ),
    _dicts("json-stream", contenders_decoding.JSON_STREAM, 25),
    _dicts("reading all and orjson.loads, GC by default", contenders_decoding.WHOLE_ORJSON, 2.5),
    _dicts("the same ready windows without scanning (limit)", contenders_decoding.WINDOWS, 0.8),
    Question(
        text="SSE event of 8 MB in 1 KiB reads, against whole",
        ours=contenders_events.PIECES,
        rival=contenders_events.WHOLE,
        bound=0.5,
    ),
    Question(
        text="p99 of pings beside two fast streams",
        ours=contenders_latency.PINGS,
        rival=None,
        bound=20,
        direction="at most",
        figure="p99_ms",
        unit=" ms",
    ),
    Question(
        text="memory of an idle SSE stream, against a bare handler",
        ours=contenders_latency.IDLE,
        rival=contenders_latency.BARE_IDLE,
        bound=2,
        direction="at most",
        figure="kib_each",
    ),
    Question(
        text="time to first byte, against a bare handler",
        ours=contenders_latency.FIRST_BYTE,
        rival=contenders_latency.BARE_FIRST_BYTE,
        bound=1.5,
        direction="at most",
        figure="first_byte_ms",
    ),
    _memory_of_rows("table()", contenders_postgres.BY_KEY),
    _memory_of_rows("rows()", contenders_postgres.BY_CURSOR),
    _rows_of_postgres("fetching all, then encoding", contenders_postgres.FETCH_ALL, 2),
    _rows_of_postgres("psql copy of row_to_json (limit)", contenders_postgres.COPY_JSON, 0.4),
)

UNFAIR = {
    module.__name__.rpartition("_")[2]: "- " + (module.__doc__ or "").partition("\n- ")[2].strip()
    for module in (
        contenders_rows,
        contenders_document,
        contenders_events,
        contenders_websocket,
        contenders_decoding,
        contenders_latency,
        contenders_postgres,
    )
}
"""The unfair aspects of each group of contenders, as a list in Markdown from the docstring of its module."""

CONTENDERS = {contender.name: contender for subject in SUBJECTS for contender in subject.contenders}
"""All contenders by name. A process of a contender gets only the name and finds the contender here."""
