"""Where the attempts of a graph's tasks are made: here, in threads, in processes, on a Dask cluster."""
