"""How each parameter is used."""
