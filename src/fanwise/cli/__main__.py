"""Let `python -m fanwise.cli` be the command `fanwise`."""

from fanwise.cli.app import main

main()
