"""What a run is: states, progress, dispatch, liveness and statistics. No HTTP and no SQL in here."""
