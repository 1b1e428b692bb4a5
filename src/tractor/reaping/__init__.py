"""Finding and ending what dead programs left behind: processes, segments, socket files."""
