"""The `fer-batch` command: analyze many recordings with many processes.

    cli.py            the command: checks the options, starts Ray, and sets the exit code
    addresses.py      addresses that fsspec opens, and how they are shown without secrets
    inputs.py         finds the recordings: paths, globs, folders, lists, addresses
    settings.py       settings of a run, and a key for those that shape the results
    parts.py          cuts long recordings, and joins their parts into one table
    tables.py         the rows of a recording, and the files with them
    work.py           the tasks of a worker: read a header, analyze a part, join the parts
    watchdog.py       ends a worker that makes no progress
    archive.py        the driver: hands out tasks and collects their results
    estimate.py       estimates how long a run would take
    cluster.py        Ray: runs the tasks, and repeats those that were lost with a worker
    output_folder.py  the folder of results, local or at an address that fsspec writes to
    manifest.py       the record of every recording: manifest.parquet and the summary
    index.py          the index page of the reports
    progress.py       the messages of the command

Workers do not import Ray: their tasks are ordinary functions. They write results straight to the output, so
the driver handles only a few hundred bytes per part.
"""
