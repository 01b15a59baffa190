import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import type { ServerClock } from "../clock";
import { clockText, statusText } from "../live/words";
import { leftMs, type Row } from "./model";
import { useNow } from "./ticking";
import { agoText, concernText, PAGE_TEXTS, shortActor, shortNode, timeText, videoText } from "./words";

export type Action = "pause" | "resume" | "extend" | "end" | "start" | "details";

export interface Desk {
  clock: ServerClock;
  mayLead: boolean;
  busy: string | null;
  act(row: Row, action: Action): void;
}

/** Tables that become cards on narrow screens, so their roles are said. */
export function Table({ label, heads, children }: { label: string; heads: string[]; children: ComponentChildren }) {
  return (
    <table role="table" aria-label={label}>
      <thead role="rowgroup">
        <tr role="row">
          {heads.map((head) => (
            <th key={head} role="columnheader" scope="col" class={`head-${head.split(" ")[0]!.toLowerCase()}`}>
              {head}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">{children}</tbody>
    </table>
  );
}

export function Cell({ head, kind = "", children }: { head: string; kind?: string; children: ComponentChildren }) {
  return (
    <td role="cell" class={kind}>
      <span class="cell-head" aria-hidden="true">
        {head}
      </span>
      <div>{children}</div>
    </td>
  );
}

export const LIVE_HEADS = ["Candidate", "Job", "Question", "Time left", "Since", "Connection", "Integrity", "Where", "Actions"];

export function LiveRow({ row, desk }: { row: Row; desk: Desk }) {
  return useMemo(() => {
    return (
      <tr role="row" class={`row-${row.status_detail}`}>
        <Who row={row} desk={desk} />
        <Cell head="Job">{row.job_id ?? "–"}</Cell>
        <Cell head="Question" kind="num">
          {row.question === null ? row.answered : row.question.index + 1} <span class="muted">of {row.questions}</span>
          {row.question !== null && <span class="second muted">{row.question.type}</span>}
        </Cell>
        <Cell head="Time left" kind="num">
          <TimeLeft row={row} clock={desk.clock} />
        </Cell>
        <Cell head="Since" kind="num">
          <Since iso={row.started_at ?? row.created_at} clock={desk.clock} />
        </Cell>
        <Cell head="Connection">
          <Connection row={row} />
        </Cell>
        <Cell head="Integrity" kind="num">
          <Integrity row={row} />
        </Cell>
        <Cell head="Where" kind="where">
          {row.node === null ? (
            <span class="muted">–</span>
          ) : (
            <>
              <span title={row.node}>{shortNode(row.node)}</span>
              <span class="second muted" title={row.actor ?? undefined}>
                {shortActor(row.actor ?? "")}
              </span>
            </>
          )}
        </Cell>
        <Cell head="Actions" kind="actions">
          <Actions row={row} desk={desk} />
        </Cell>
      </tr>
    );
  }, [row, desk]);
}

export const WAITING_HEADS = ["Candidate", "Job", "Questions", "Scheduled", "Created", "Actions"];

export function WaitingRow({ row, desk }: { row: Row; desk: Desk }) {
  return useMemo(() => {
    const now = desk.clock.now();
    return (
      <tr role="row">
        <Who row={row} desk={desk} />
        <Cell head="Job">{row.job_id ?? "–"}</Cell>
        <Cell head="Questions" kind="num">
          {row.questions}
        </Cell>
        <Cell head="Scheduled" kind="num">
          {row.scheduled_at === null ? <span class="muted">any time</span> : timeText(row.scheduled_at, now)}
        </Cell>
        <Cell head="Created" kind="num">
          {timeText(row.created_at, now)}
        </Cell>
        <Cell head="Actions" kind="actions">
          <Actions row={row} desk={desk} />
        </Cell>
      </tr>
    );
  }, [row, desk]);
}

export const ENDED_HEADS = ["Candidate", "Job", "Answered", "Ended", "How", "Integrity", "Actions"];

export function EndedRow({ row, desk }: { row: Row; desk: Desk }) {
  return useMemo(() => {
    const now = desk.clock.now();
    return (
      <tr role="row">
        <Who row={row} desk={desk} />
        <Cell head="Job">{row.job_id ?? "–"}</Cell>
        <Cell head="Answered" kind="num">
          {row.answered} <span class="muted">of {row.questions}</span>
        </Cell>
        <Cell head="Ended" kind="num">
          {row.completed_at === null ? "–" : timeText(row.completed_at, now)}
        </Cell>
        <Cell head="How">{statusText(row).replace(/^Ended: /, "")}</Cell>
        <Cell head="Integrity" kind="num">
          <Integrity row={row} />
        </Cell>
        <Cell head="Actions" kind="actions">
          <Actions row={row} desk={desk} />
        </Cell>
      </tr>
    );
  }, [row, desk]);
}

export const FOUND_HEADS = ["Candidate", "Job", "State", "Created", "Actions"];

export function FoundRow({ row, desk }: { row: Row; desk: Desk }) {
  return useMemo(() => {
    return (
      <tr role="row">
        <Who row={row} desk={desk} />
        <Cell head="Job">{row.job_id ?? "–"}</Cell>
        <Cell head="State">{statusText(row)}</Cell>
        <Cell head="Created" kind="num">
          {timeText(row.created_at, desk.clock.now())}
        </Cell>
        <Cell head="Actions" kind="actions">
          <Actions row={row} desk={desk} />
        </Cell>
      </tr>
    );
  }, [row, desk]);
}

/** The name, which opens the details. */
function Who({ row, desk }: { row: Row; desk: Desk }) {
  return (
    <th role="rowheader" scope="row" class="who">
      <button type="button" class="name" onClick={() => desk.act(row, "details")}>
        {row.name}
      </button>
      <span class="second muted">{row.email}</span>
    </th>
  );
}

function TimeLeft({ row, clock }: { row: Row; clock: ServerClock }) {
  const runs = row.question?.deadline != null;
  const left = leftMs(row.question, useNow(clock, runs));
  const state = STATES[row.status_detail];
  return (
    <>
      {left !== null && <span class={runs && left < 30_000 ? "left error" : "left"}>{clockText(left)}</span>}
      {state && <span class={`badge badge-${row.status_detail}`}>{state}</span>}
    </>
  );
}

const STATES: Partial<Record<Row["status_detail"], string>> = {
  paused: "paused",
  connection_lost: "clock stopped",
  recovering: "moving",
  parked: "parked",
};

function Since({ iso, clock }: { iso: string; clock: ServerClock }) {
  const now = useNow(clock);
  return (
    <>
      {timeText(iso, now)}
      <span class="second muted">{agoText(iso, now)}</span>
    </>
  );
}

function Connection({ row }: { row: Row }) {
  const page = row.page ?? "unseen";
  return (
    <>
      <span class={`dot dot-${page}`}>{PAGE_TEXTS[page]}</span>
      <span class="second muted">{videoText(row.video)}</span>
    </>
  );
}

function Integrity({ row }: { row: Row }) {
  if (row.integrity === null) return <span class="muted">–</span>;
  return (
    <>
      {Math.round(row.integrity.score)}
      <span class="second muted">{concernText(row.integrity.label)}</span>
    </>
  );
}

function Actions({ row, desk }: { row: Row; desk: Desk }) {
  const button = (action: Action, text: string, kind = "") => (
    <button
      type="button"
      class={`small ${kind}`}
      aria-label={`${text.replace("…", "")} ${row.name}`}
      aria-busy={desk.busy === row.session_id}
      onClick={() => desk.act(row, action)}
    >
      {text}
    </button>
  );
  const live = row.status === "in_progress";
  const parked = row.status_detail === "parked";
  const toggle = row.status_detail === "paused" ? "resume" : "pause";
  return (
    <div class="buttons">
      {desk.mayLead && live && !parked && button(toggle, toggle === "pause" ? "Pause" : "Resume")}
      {desk.mayLead && parked && button("start", "Try again")}
      {desk.mayLead && live && button("extend", "Extend…")}
      {live && (
        <Away href={`/sessions/${row.session_id}/live`} label={`Watch ${row.name} live`}>
          Watch
        </Away>
      )}
      {row.status === "completed" && row.started_at !== null && (
        <Away href={`/api/reports/${row.session_id}?format=html`} label={`Report of ${row.name}`}>
          Report
        </Away>
      )}
      {desk.mayLead && row.status !== "completed" && button("end", live ? "End…" : "Cancel…", "danger")}
    </div>
  );
}

/** A page of ours in a tab of its own. It keeps its opener: so the new tab gets the key that was typed in this one. */
export function Away({ href, label, children }: { href: string; label?: string; children: ComponentChildren }) {
  return (
    <a class="button small" href={href} target="_blank" rel="opener" aria-label={label}>
      {children}
    </a>
  );
}
