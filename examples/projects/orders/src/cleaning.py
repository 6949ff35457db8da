"""Functions of this project that are nodes."""


def keep_paid(rows: list[dict], lowest):
    """The orders of at least so much."""
    return [row for row in rows if row["amount"] >= lowest]
