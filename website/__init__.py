"""What the site's pages are made of at build: commands, verdicts, blocks of code."""
