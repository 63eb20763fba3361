"""What tasks take where nobody says otherwise, for commands to show it; imports nothing, so that help answers at once."""

FALSE_ALARMS = 0.01  # fraction of usual items that the threshold of outliers is set for
QUANTILE = 1 - FALSE_ALARMS  # of the validation errors: the same threshold
