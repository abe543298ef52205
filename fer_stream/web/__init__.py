"""`--serve`: the live page.

`page` is the sink that the pipeline writes to. `hub` passes its frames to the readers, `app` answers
requests, `guard` decides which requests are allowed, and `server` runs these in its own thread. `static`
holds the page itself.
"""
