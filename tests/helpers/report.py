"""The part of the sample clip that the report shows."""

START_S = 4
