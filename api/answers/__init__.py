"""What calls answer, as Pydantic models. They are for /docs alone: nothing that is answered goes through them."""
