"""Pictures: from pixels to the bytes of an upload, and from the bytes of a result to pixels, in bounded memory.

Entries: `encode.encode`, `decode.decode`."""
