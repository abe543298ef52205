"""`python -m train` is `fer-train`."""

from fer_stream.start import fer_train

if __name__ == "__main__":
    fer_train()
