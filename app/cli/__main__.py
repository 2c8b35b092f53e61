"""``python -m app.cli`` is ``bt``."""

from app.cli import main

main()
