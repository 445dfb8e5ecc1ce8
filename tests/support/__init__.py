"""What several test modules share: small models, known answers, suites for every front end."""
