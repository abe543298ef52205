"""`python -m fer_stream` is `fer-stream`."""

import sys

from fer_stream.cli import main

if __name__ == "__main__":
    sys.exit(main())
