"""Side-by-side timings: `make bench`. Ratios in one run, never a test."""
