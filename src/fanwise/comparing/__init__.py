"""Comparing: from training runs to which start trains better, and how sure that is.

A *start* is a way to initialize a model; a *trial* is one training run of it, at one learning rate
and with one seed. Front ends run trials; what to run next, and what the results say, is decided
here. `fanwise.comparing.sweep` names the next trial, `record` keeps them in a file, `verdicts`
compares two starts seed by seed, and `comparison` puts it all in one value. `transfer` judges runs
of one policy at several widths and depths.
"""
