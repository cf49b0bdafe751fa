"""Classes of rows in a verification: faults, and rows that differ as they should."""

from typing import Literal

FAULTS = {
    "missing": "at the source, the filter keeps it, and the sink has not got it",
    "older": "the sink has an older version, though a run should have brought the newer one",
    "newer": "the sink has a newer version than the source",
    "different": "of the same version on both sides, with other values",
    "extra": "in the sink only, and the last run should have removed it",
}
"""Classes of rows that no later run puts right."""
EXPECTED = {
    "pending": "not due: the next run reads it",
    "leaving": "in the sink only: the next comparison of keys removes it",
    "unmatched": "in the sink, and the filter does not keep it any more: the pipeline leaves it there",
    "deleted": "in the sink, and not at the source: the pipeline leaves it there",
}
"""Classes of rows that differ as they should."""
CLASSES = (*FAULTS, *EXPECTED)
COUNTS = ("source_rows", "sink_rows", "equal_rows", *CLASSES, "rejected", "repaired")
"""Row counts of a verification in the ledger. `rejected`: rows of the source that the sink cannot hold."""
MODES: tuple[Literal["quick"], Literal["deep"]] = ("quick", "deep")
"""`quick` compares key and version, `deep` all columns."""
