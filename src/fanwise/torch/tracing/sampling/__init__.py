"""Operations without an equation, run again on samples; weights made of parameters, made again."""
