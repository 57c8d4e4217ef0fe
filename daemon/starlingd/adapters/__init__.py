"""One file for each outside system; each translates its failures into ``ports.Unavailable``, once."""
