"""What each kind of operation of `keras.ops` makes of data: a file a kind."""
