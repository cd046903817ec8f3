"""The rows of the table that `fan-out` prints."""
