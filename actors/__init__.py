"""Ray. The actors are plain classes; `cluster` is the only module that imports ray."""
