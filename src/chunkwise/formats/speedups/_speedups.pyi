# The types of the compiled code are those of the fallback.
from chunkwise.formats.speedups.fallback import Items as Items
from chunkwise.formats.speedups.fallback import Scanner as Scanner
from chunkwise.formats.speedups.fallback import event_texts as event_texts
from chunkwise.formats.speedups.fallback import gather_items as gather_items
from chunkwise.formats.speedups.fallback import holds_null as holds_null
from chunkwise.formats.speedups.fallback import line_ends as line_ends
from chunkwise.formats.speedups.fallback import whole_bytes as whole_bytes

STATES: dict[str, int]
CLOSERS: dict[int, int]
