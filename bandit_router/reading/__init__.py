"""Files and cells as people's tools write them: compression, encodings, separators, numbers, times and truth."""
