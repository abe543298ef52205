"""`--serve`: the live page.

`page` is the sink that the pipeline writes to, `hub` hands its frames to the readers, `app` answers requests,
`guard` decides who may ask, `server` runs it all in a thread of its own. `static` holds the page itself.
"""
