"""Output: the terminal, files of scores and codes, and figures."""
