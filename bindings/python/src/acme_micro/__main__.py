"""``python -m acme_micro`` runs the command ``acme-micro``."""

from .command import main

if __name__ == "__main__":
    raise SystemExit(main())
