"""FastAPI: turns HTTP calls into commands and queries. Routes parse, call and shape; they hold no rule."""
