"""`python -m spokes.console`: the command line."""

from spokes.console.cli import main

if __name__ == "__main__":
    main()
