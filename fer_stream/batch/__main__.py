"""`python -m fer_stream.batch` is `fer-batch`."""

import sys

from fer_stream.batch.cli import main

if __name__ == "__main__":
    sys.exit(main())
