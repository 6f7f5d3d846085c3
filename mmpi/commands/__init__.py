"""Commands: what each word after `mmpi` does; imported only when it is typed, so that `mmpi kill` starts at once."""
