"""`--serve`: the live page.

`page` is the sink that the pipeline writes to. `hub` passes its frames to the readers, and `history` keeps
the readings so far. `app` answers requests with the help of `responses`, `guard` decides which requests are
allowed, and `server` runs these in its own thread at the address that `addresses` makes. `static` holds the
page itself.
"""
