"""What tasks take where nobody says otherwise, for commands to show it; imports nothing, so that help answers at once."""

QUANTILE = 0.99  # of the validation errors: the threshold of outliers
