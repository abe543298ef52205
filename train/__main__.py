"""`python -m train` is `fer-train`."""

from train.cli import program

if __name__ == "__main__":
    program()
