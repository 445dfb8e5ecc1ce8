"""Let `python -m fanwise` be the command `fanwise`."""

from fanwise.cli.app import main

main()
