/** What the console knows: rows of sessions, and figures of the whole. */

import type { Session } from "../live/model";

export interface OpenQuestion {
  index: number;
  type: "text" | "coding";
  deadline: string | null;
  remaining_seconds: number | null;
}

export interface Row {
  session_id: string;
  version: number;
  name: string;
  email: string;
  job_id: string | null;
  status: Session["status"];
  status_detail: Session["status_detail"];
  end_reason: string | null;
  answered: number;
  questions: number;
  question: OpenQuestion | null;
  created_at: string;
  scheduled_at: string | null;
  started_at: string | null;
  completed_at: string | null;
  /** null: the list that the row is from does not say. */
  page: "here" | "lost" | "away" | "unseen" | null;
  video: { mode: "live" | "fallback"; connected: boolean };
  integrity: { score: number; label: string } | null;
  actor: string | null;
  node: string | null;
  parked: string | null;
}

export interface Node {
  node: string;
  address: string;
  alive: boolean;
  cpu: number;
  memory_bytes: number;
  draining: boolean;
  live_on_draining: number | null;
}

export interface Cluster {
  live_actors: number;
  warm_actors: number;
  starting_actors: number;
  capacity: number;
  nodes: Node[];
  parked: { session_id: string }[];
}

/** Under way at its end, started in it, ended in it. */
export type Minute = [live: number, starts: number, ends: number];

export interface Chart {
  until: string;
  minutes: Minute[];
}

export interface Board {
  rows: ReadonlyMap<string, Row>;
  live: number;
  waiting: number;
  cluster: Cluster | null;
  chart: Chart | null;
  /** A sentence, while something is not up to date. */
  trouble: string | null;
  /** Whether everything has come once. */
  isComplete: boolean;
}

export const EMPTY: Board = {
  rows: new Map(),
  live: 0,
  waiting: 0,
  cluster: null,
  chart: null,
  trouble: null,
  isComplete: false,
};

export type Change = Partial<Pick<Board, "live" | "waiting" | "cluster" | "chart" | "trouble">> & { rows?: Row[]; gone?: string[] };

/** The board after an event of the feed: `all` replaces it, `change` goes on. */
export function withEvent(board: Board, type: string, { rows = [], gone = [], ...figures }: Change): Board {
  const known = new Map(type === "all" ? [] : board.rows);
  for (const id of gone) known.delete(id);
  for (const row of rows) known.set(row.session_id, newer(board.rows.get(row.session_id), row));
  const told = pick(figures);
  if (type === "all") return { ...EMPTY, ...told, rows: known, isComplete: true };
  return { ...board, ...told, rows: rows.length + gone.length > 0 ? known : board.rows };
}

function pick(figures: object): Partial<Board> {
  const wanted = ["live", "waiting", "cluster", "chart", "trouble"];
  return Object.fromEntries(Object.entries(figures).filter(([name]) => wanted.includes(name)));
}

/** The feed may be behind the answer to a command. */
function newer(known: Row | undefined, row: Row): Row {
  return known !== undefined && known.version > row.version ? known : row;
}

/** The board with a session as a call has answered it. */
export function withSession(board: Board, session: StaffSession): Board {
  const row = rowOf(session, board.rows.get(session.session_id));
  return { ...board, rows: new Map(board.rows).set(row.session_id, newer(board.rows.get(row.session_id), row)) };
}

/** A session as REST answers it to staff, as far as the console needs it. */
export interface StaffSession extends Session {
  candidate: { name: string; email: string; phone: string | null };
  job_id: string | null;
  created_at: string;
  scheduled_at: string | null;
  started_at: string | null;
  completed_at: string | null;
  placement: { actor: string; node: string; epoch: number; dashboard_url?: string | null } | null;
  clock: { credited_seconds: number };
  proctoring: { integrity: { score: number; label: string } | null };
}

/** `known`: what the feed has said of it, for what the session itself does not tell. */
export function rowOf(session: StaffSession, known?: Row): Row {
  const question = session.current_question;
  return {
    session_id: session.session_id,
    version: session.version,
    name: session.candidate.name,
    email: session.candidate.email,
    job_id: session.job_id,
    status: session.status,
    status_detail: session.status_detail,
    end_reason: session.end_reason,
    answered: session.current_question_count,
    questions: session.max_questions,
    question: question && {
      index: question.index,
      type: question.type,
      deadline: question.deadline ?? null,
      remaining_seconds: question.deadline ? null : (question.remaining_seconds ?? null),
    },
    created_at: session.created_at,
    scheduled_at: session.scheduled_at,
    started_at: session.started_at,
    completed_at: session.completed_at,
    page: known?.page ?? null,
    video: { mode: session.livekit.mode, connected: session.livekit.connected },
    integrity: session.proctoring.integrity ?? known?.integrity ?? null,
    actor: session.placement?.actor ?? null,
    node: session.placement?.node ?? null,
    parked: known?.parked ?? null,
  };
}

export interface Lists {
  live: Row[];
  waiting: Row[];
  ended: Row[];
}

const MOST = { live: 1_000, waiting: 100 };

/** How many there are: what is listed here is newer than what was counted, unless there are more than are listed. */
export function countsOf(board: Board, lists: Lists): { live: number; waiting: number } {
  const { live, waiting } = lists;
  return {
    live: live.length < MOST.live ? live.length : Math.max(board.live, live.length),
    waiting: waiting.length < MOST.waiting ? waiting.length : Math.max(board.waiting, waiting.length),
  };
}

/** The rows as they are shown: who began first, who is due first, who ended last. */
export function listsOf(rows: Iterable<Row>): Lists {
  const lists: Lists = { live: [], waiting: [], ended: [] };
  for (const row of rows) {
    if (row.status === "in_progress") lists.live.push(row);
    else if (row.status === "initialized") lists.waiting.push(row);
    else lists.ended.push(row);
  }
  lists.live.sort(by((row) => row.started_at ?? ""));
  lists.waiting.sort(by((row) => row.scheduled_at ?? "9", (row) => row.created_at));
  lists.ended.sort(by((row) => row.completed_at ?? "")).reverse();
  return lists;
}

function by(...keys: ((row: Row) => string)[]): (a: Row, b: Row) => number {
  return (a, b) => {
    for (const key of [...keys, (row: Row) => row.session_id]) {
      const [left, right] = [key(a), key(b)];
      if (left !== right) return left < right ? -1 : 1;
    }
    return 0;
  };
}

export type Filter = "all" | "attention" | "paused";

/** Whether somebody should look at an interview: it stands still, or its candidate is cut off. */
export function needsAttention(row: Row): boolean {
  return row.status_detail === "parked" || row.status_detail === "connection_lost" || row.page === "lost";
}

export function matches(row: Row, filter: Filter): boolean {
  if (filter === "attention") return needsAttention(row);
  return filter === "all" || row.status_detail === "paused";
}

/** Milliseconds that the open question has left, at `now` on the server's clock; null if none is open. */
export function leftMs(question: OpenQuestion | null, now: number): number | null {
  if (question === null) return null;
  if (question.deadline !== null) return Math.max(0, Date.parse(question.deadline) - now);
  return (question.remaining_seconds ?? 0) * 1000;
}
