"""The module `outbound` encodes a source as bytes; `inbound` decodes bytes to items. Both are async, but do no I/O."""
