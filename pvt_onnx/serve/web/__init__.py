"""The service over HTTP: Starlette, on uvicorn."""
