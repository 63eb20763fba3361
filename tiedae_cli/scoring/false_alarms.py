"""How many false alarms a threshold allows unless told otherwise; imports nothing, so that help answers at once."""

FALSE_ALARMS = 0.01  # fraction of normal items expected above the threshold
QUANTILE = 1 - FALSE_ALARMS  # of the validation scores: the same threshold
