"""One file a kind of source; each becomes image sets by the name of their split."""
