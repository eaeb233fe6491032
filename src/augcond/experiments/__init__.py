"""What calls the pipeline many times, or before a run: sweeps, previews, the dry run, the demo."""
