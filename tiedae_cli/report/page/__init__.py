"""The report's HTML page: a template, a style sheet, scripts, and a compressed block of numbers."""
