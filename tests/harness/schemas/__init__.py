"""Whole schemas of other people: restored from dumps, filled where they are empty, changed at random, compared."""
