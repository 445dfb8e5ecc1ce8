"""The integer normal quantile: how its coefficients are derived, and how exact it is."""
