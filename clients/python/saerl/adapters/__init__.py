"""One file a trainer (docs/trainers.md). None imports its trainer before it is used."""
