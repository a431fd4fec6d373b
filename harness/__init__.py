"""How a comparison is planned, run, metered, evaluated, judged and reported."""
