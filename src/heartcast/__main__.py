"""``python -m heartcast``."""

from heartcast.cli import main

main()
