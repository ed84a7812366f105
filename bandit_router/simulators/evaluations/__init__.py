"""Results of evaluations, from spreadsheets and harnesses, as an outcome table."""
