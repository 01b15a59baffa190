import { useEffect, useState } from "preact/hooks";
import { rest } from "../api";
import { Dialog } from "../dialogs";
import { durationText, statusText } from "../live/words";
import { command } from "./commands";
import { CopyField } from "./copying";
import { sentence } from "./Create";
import type { Row, StaffSession } from "./model";
import { Away } from "./Rows";
import { timeText } from "./words";

interface Props {
  row: Row;
  now: number;
  mayManage: boolean;
  onSession(session: StaffSession): void;
  onCancel(): void;
}

/** Everything about one session that somebody may look for, and where to go on. */
export function DetailsDialog({ row, now, mayManage, onSession, onCancel }: Props) {
  const [session, setSession] = useState<StaffSession | null>(null);
  const [link, setLink] = useState<string | null>(null);
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const id = row.session_id;
  useEffect(() => {
    rest<{ session: StaffSession }>(`/session/${encodeURIComponent(id)}`).then(
      (answer) => {
        setSession(answer.session);
        onSession(answer.session);
      },
      (problem) => setError(sentence(problem)),
    );
  }, [id]);
  const renew = async (): Promise<void> => {
    if (busy) return;
    setBusy(true);
    try {
      const answer = await command<{ session: StaffSession; links: { candidate: string } }>(id, "link");
      setLink(answer.links.candidate);
      onSession(answer.session);
    } catch (problem) {
      setError(sentence(problem));
    } finally {
      setBusy(false);
    }
  };
  const placement = session?.placement;
  const started = row.started_at !== null;
  const credited = session?.clock.credited_seconds ?? 0;
  return (
    <Dialog title={row.name} cancel="Close" busy={false} error={error} onCancel={onCancel}>
      <dl class="details">
        <Detail name="State" value={statusText(row)} />
        {row.parked !== null && <Detail name="Parked because" value={row.parked} />}
        <Detail name="Email" value={row.email} />
        {session?.candidate.phone && <Detail name="Phone" value={session.candidate.phone} />}
        <Detail name="Job" value={row.job_id ?? "own questions"} />
        <Detail name="Session" value={id} />
        <Detail name="Created" value={timeText(row.created_at, now)} />
        {row.scheduled_at !== null && <Detail name="Scheduled" value={timeText(row.scheduled_at, now)} />}
        {started && <Detail name="Started" value={timeText(row.started_at!, now)} />}
        {row.completed_at !== null && <Detail name="Ended" value={timeText(row.completed_at, now)} />}
        {credited > 0 && <Detail name="Time given back" value={durationText(credited * 1000)} />}
        {placement && <Detail name="Actor" value={placement.actor} />}
        {placement && <Detail name="Node" value={placement.node} />}
      </dl>
      <div class="buttons">
        {row.status !== "initialized" && <Away href={`/sessions/${id}/live`}>Live view</Away>}
        {row.status === "completed" && started && <Away href={`/api/reports/${id}?format=html`}>Report</Away>}
        {placement?.dashboard_url && isWeb(placement.dashboard_url) && (
          <a class="button small" href={placement.dashboard_url} target="_blank" rel="noopener noreferrer">
            Ray dashboard
          </a>
        )}
        {mayManage && row.status !== "completed" && link === null && (
          <button type="button" class="small" aria-expanded={asking} onClick={() => setAsking(!asking)}>
            New candidate link…
          </button>
        )}
      </div>
      {asking && link === null && (
        <div class="asking">
          <p>The link that the candidate has stops working, and a page that is open with it.</p>
          <button type="button" class="small danger" aria-busy={busy} onClick={() => void renew()}>
            Make a new link
          </button>
        </div>
      )}
      {link !== null && (
        <>
          <p class="muted" role="status">
            Older links of this candidate do not work any more.
          </p>
          <CopyField label="Candidate’s link" text={link} />
        </>
      )}
    </Dialog>
  );
}

function isWeb(address: string): boolean {
  return /^https?:\/\//i.test(address);
}

function Detail({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
