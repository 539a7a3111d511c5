"""`python -m gledger`."""

from gledger.cli import main

if __name__ == "__main__":
    main()
