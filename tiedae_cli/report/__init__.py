"""The report page: its facts about one or several runs, and the models that run in the browser."""
