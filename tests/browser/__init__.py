"""Every notebook and every widget in a real JupyterLab and a real browser."""
