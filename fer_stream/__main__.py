"""`python -m fer_stream` is `fer-stream`."""

from fer_stream.cli import program

if __name__ == "__main__":
    program()
