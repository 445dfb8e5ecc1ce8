"""Does a verdict find what is wrong, where it begins, and nothing where nothing is wrong?"""
