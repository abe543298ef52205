"""`python -m fer_stream.batch` is `fer-batch`."""

from fer_stream.start import fer_batch

if __name__ == "__main__":
    fer_batch()
