"""Many recordings on many processes: the `fer-batch` command.

    inputs.py    which recordings: paths, globs, folders, lists, whatever fsspec opens
    settings.py  how they are analyzed, and what of that shapes the results
    parts.py     how a long recording is cut, and how its parts become one table
    tables.py    the rows of a recording, and the files that they are written to
    work.py      what a worker does: look at a recording, analyze a part of it, join its parts
    archive.py   the driver: which tasks there are, and what has come of them
    cluster.py   Ray: places the tasks, and does again what was lost with a worker
    outputs.py   the folder of results, here or wherever fsspec writes
    manifest.py  what is known of every recording: manifest.parquet and the summary
    progress.py  what the command says

Workers import no Ray: they are ordinary functions of what they are given. Results go from the workers
straight to the output, so that the driver handles a few hundred bytes a part.
"""
