"""`python -m limner`: the command line, where no script was installed."""

from __future__ import annotations

from limner.cli import main

if __name__ == "__main__":
    main()
