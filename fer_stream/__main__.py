"""`python -m fer_stream` is `fer-stream`."""

from fer_stream.start import fer_stream

if __name__ == "__main__":
    fer_stream()
