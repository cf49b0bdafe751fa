"""What the images bring from others: lists of it, its licences, and what is known to be wrong with it."""
