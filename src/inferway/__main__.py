"""`python -m inferway` is the `inferway` command."""

from inferway.cli.main import main

if __name__ == "__main__":
    main()
