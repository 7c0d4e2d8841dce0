"""Pictures: pixels to upload bytes (`encode.encode`), result bytes to pixels (`decode.decode`), in bounded memory."""
