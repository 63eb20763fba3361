"""The page that a report is: one template, one style, a few scripts, and the numbers packed beside them."""
