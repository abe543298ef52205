"""The `fer-stream` command: options, entry point, progress and messages."""
