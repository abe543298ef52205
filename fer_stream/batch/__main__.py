"""`python -m fer_stream.batch` is `fer-batch`."""

from fer_stream.batch.cli import program

if __name__ == "__main__":
    program()
