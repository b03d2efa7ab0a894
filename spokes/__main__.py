"""`python -m spokes`: the command line."""

from spokes.console.cli import main

if __name__ == "__main__":
    main()
