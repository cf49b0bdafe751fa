"""Messages of the source's write-ahead log, as its plugin pgoutput writes them: decoded whole columns at a time."""
