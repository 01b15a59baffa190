import { useState } from "preact/hooks";
import type { JournalEvent } from "./model";
import { eventText, whoText } from "./words";

const AT_ONCE = 200;

/** The journal, newest first. */
export function Journal({ events }: { events: JournalEvent[] }) {
  const [shown, setShown] = useState(AT_ONCE);
  const newest = events.slice(-shown).reverse();
  return (
    <section class="panel" aria-labelledby="journal-title">
      <h2 id="journal-title">Journal</h2>
      {events.length === 0 && <p class="muted">Nothing yet.</p>}
      <ol class="journal" reversed>
        {newest.map((event) => (
          <Entry key={event.seq} event={event} />
        ))}
      </ol>
      {events.length > shown && (
        <button type="button" onClick={() => setShown(shown + AT_ONCE)}>
          Show older events ({events.length - shown} more)
        </button>
      )}
    </section>
  );
}

function Entry({ event }: { event: JournalEvent }) {
  const [open, setOpen] = useState(false);
  const at = new Date(event.at);
  return (
    <li>
      <details onToggle={(e) => setOpen(e.currentTarget.open)}>
        <summary>
          <time dateTime={at.toISOString()} title={at.toLocaleString()}>
            {at.toLocaleTimeString([], { hourCycle: "h23" })}
          </time>
          <span class="what">{eventText(event)}</span>
          <span class="who muted">{whoText(event.by)}</span>
        </summary>
        {open && <pre>{JSON.stringify({ seq: event.seq, by: event.by, ...event.event }, null, 2)}</pre>}
      </details>
    </li>
  );
}
