"""The rules of an interview, as a fold over its journal. Pure: no Ray, no network, no clock.

    decide(state, command, now) -> events     the only place where rules live; raises typed errors
    apply(state, event)         -> state      cannot fail
    fold(state, entry)          -> state      applies one journal entry

Times are integers: milliseconds since the Unix epoch, UTC. Durations inside are milliseconds too;
views turn both into ISO 8601 and seconds.
"""
