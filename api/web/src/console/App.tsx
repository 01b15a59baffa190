import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import { authorize, rest } from "../api";
import { Dialog, EndDialog, ExtendDialog } from "../dialogs";
import { KeyForm, STORED_KEY } from "../live/KeyForm";
import { Chart } from "./Chart";
import { command } from "./commands";
import { CreateDialog, InviteDialog, type Job, sentence } from "./Create";
import { DetailsDialog } from "./Details";
import { Feed } from "./feed";
import { Figures } from "./Figures";
import { countsOf, type Filter, listsOf, matches, type Node, type Row } from "./model";
import { Nodes } from "./Nodes";
import { type Action, type Desk, ENDED_HEADS, EndedRow, FOUND_HEADS, FoundRow, LIVE_HEADS, LiveRow, Table, WAITING_HEADS, WaitingRow } from "./Rows";
import { type Found, useSearch } from "./search";
import { nextTheme, storedTheme, useTheme } from "./theme";
import { shortNode } from "./words";

export function App() {
  const [login, setLogin] = useState({ key: sessionStorage.getItem(STORED_KEY) });
  const [feed, setFeed] = useState<Feed | null>(null);
  const [, redraw] = useReducer((n: number) => n + 1, 0);

  useEffect(() => {
    authorize(login.key === null ? null : { staffKey: login.key });
    const started = new Feed(login.key, () => redraw(undefined));
    setFeed(started);
    void started.run();
    return () => started.stop();
  }, [login]);

  const useKey = (key: string): void => {
    sessionStorage.setItem(STORED_KEY, key);
    setLogin({ key });
  };
  const leave = (): void => {
    sessionStorage.removeItem(STORED_KEY);
    setLogin({ key: null });
  };
  if (feed === null) return null;
  if (feed.state === "key")
    return (
      <main tabIndex={-1}>
        <KeyForm title="Interviews" wasRefused={login.key !== null} onKey={useKey} />
      </main>
    );
  if (feed.state === "closed")
    return (
      <main class="page-note" tabIndex={-1}>
        <p class="error">This key does not open the console; it needs the scope read.</p>
        <button type="button" onClick={leave}>
          Use another key
        </button>
      </main>
    );
  return <Console feed={feed} onLeave={login.key === null ? null : leave} />;
}

type Shown =
  | { what: "create" | "invite" }
  | { what: "extend" | "end" | "details"; row: Row }
  | { what: "drain"; node: Node };

function Console({ feed, onLeave }: { feed: Feed; onLeave: (() => void) | null }) {
  const { board, clock } = feed;
  const [shown, setShown] = useState<Shown | null>(null);
  const [busy, setBusy] = useState<string | null>(null);
  const [error, setError] = useState("");
  const [said, setSaid] = useState("");
  const [filter, setFilter] = useState<Filter>("all");
  const [text, setText] = useState("");
  const jobs = useJobs(feed);
  const found = useSearch(text, jobs);
  const lists = useMemo(() => listsOf(board.rows.values()), [board.rows]);
  const counts = countsOf(board, lists);
  const may = (...scopes: string[]): boolean => scopes.some((scope) => feed.scopes.has(scope));

  /** Runs something for a row or node; what went wrong is said in the dialog, or above the lists. */
  const run = async (id: string, work: () => Promise<string>): Promise<void> => {
    if (busy !== null) return;
    setBusy(id);
    setError("");
    try {
      setSaid(await work());
      setShown(null);
    } catch (problem) {
      setError(sentence(problem));
    } finally {
      setBusy(null);
    }
  };
  const lead = (row: Row, name: string, done: string, body: object = {}): void =>
    void run(row.session_id, async () => {
      const { session } = await command(row.session_id, name, body);
      feed.take(session);
      return `${row.name}: ${done}`;
    });
  const open = (what: Shown): void => {
    setError("");
    setShown(what);
  };
  const drain = (node: Node, draining: boolean): void =>
    void run(node.node, async () => {
      await rest("/cluster/drain", { json: { node: node.node, draining } });
      feed.change((known) => withDrain(known, node.node, draining));
      return `Node ${shortNode(node.node)}: ${draining ? "draining" : "in use again"}`;
    });
  const act = useRef<Desk["act"]>(() => {});
  act.current = (row, action) => {
    if (action === "pause" || action === "resume") lead(row, action, action === "pause" ? "paused" : "resumed");
    else if (action === "start") lead(row, action, "tried again");
    else open({ what: action, row });
  };
  const mayLead = may("manage", "proctor");
  const desk = useMemo<Desk>(
    () => ({ clock, mayLead, busy, act: (row: Row, action: Action) => act.current(row, action) }),
    [clock, mayLead, busy],
  );
  const close = (): void => setShown(null);
  const dialog = { busy: busy !== null, error, onCancel: close };
  const current = shown !== null && "row" in shown ? (board.rows.get(shown.row.session_id) ?? shown.row) : null;

  return (
    <>
      <Bar feed={feed} text={text} onText={setText} mayMake={may("manage")} onOpen={(what) => open({ what })} onLeave={onLeave} />
      <main tabIndex={-1}>
        <Trouble feed={feed} />
        {shown === null && error !== "" && (
          <p class="error panel notice" role="alert">
            {error}
          </p>
        )}
        <p class="visually-hidden" role="status">
          {said}
        </p>
        {text.trim() !== "" ? (
          <Results found={found} rows={board.rows} desk={desk} />
        ) : !board.isComplete ? (
          <p class="muted">Loading…</p>
        ) : (
          <>
            <div class="top">
              <Figures cluster={board.cluster} counts={counts} />
              <Chart chart={board.chart} />
            </div>
            <Live rows={lists.live} total={counts.live} filter={filter} onFilter={setFilter} desk={desk} />
            <Section id="waiting" title="Waiting" count={counts.waiting} isEmpty={lists.waiting.length === 0} empty="Nobody waits to start.">
              <Table label="Waiting" heads={WAITING_HEADS}>
                {lists.waiting.map((row) => (
                  <WaitingRow key={row.session_id} row={row} desk={desk} />
                ))}
              </Table>
              <More shown={lists.waiting.length} of={counts.waiting} />
            </Section>
            <Section id="ended" title="Recently ended" isEmpty={lists.ended.length === 0} empty="None yet.">
              <Table label="Recently ended" heads={ENDED_HEADS}>
                {lists.ended.map((row) => (
                  <EndedRow key={row.session_id} row={row} desk={desk} />
                ))}
              </Table>
            </Section>
            <Section id="nodes" title="Nodes" isEmpty={board.cluster === null} empty="Not known: the Registry does not answer.">
              <Nodes
                nodes={board.cluster?.nodes ?? []}
                live={lists.live}
                mayDrain={may("admin")}
                busy={busy}
                onDrain={(node, draining) => (draining ? open({ what: "drain", node }) : drain(node, false))}
              />
            </Section>
          </>
        )}
      </main>
      {shown?.what === "create" && <CreateDialog jobs={jobs} onMade={(session) => feed.take(session)} onCancel={close} />}
      {shown?.what === "invite" && <InviteDialog jobs={jobs} onCancel={close} />}
      {shown?.what === "extend" && (
        <ExtendDialog {...dialog} name={shown.row.name} onExtend={(body) => lead(shown.row, "extend", "more time given", body)} />
      )}
      {shown?.what === "end" && (
        <EndDialog
          {...dialog}
          name={shown.row.name}
          started={shown.row.status === "in_progress"}
          onEnd={(body) => lead(shown.row, "end", "ended", body)}
        />
      )}
      {shown?.what === "details" && (
        <DetailsDialog row={current!} now={clock.now()} mayManage={may("manage")} onSession={(session) => feed.take(session)} onCancel={close} />
      )}
      {shown?.what === "drain" && (
        <Dialog title={`Drain node ${shortNode(shown.node.node)}?`} action="Drain" {...dialog} onSubmit={() => drain(shown.node, true)}>
          <p>Its interviews are handed over to other nodes, one by one, and no new ones start there. It can be taken back at any time.</p>
        </Dialog>
      )}
    </>
  );
}

function withDrain(board: Feed["board"], node: string, draining: boolean): Feed["board"] {
  if (board.cluster === null) return board;
  const nodes = board.cluster.nodes.map((one) => (one.node === node ? { ...one, draining } : one));
  return { ...board, cluster: { ...board.cluster, nodes } };
}

/** The question banks, once the feed has let us in. */
function useJobs(feed: Feed): Job[] {
  const [jobs, setJobs] = useState<Job[]>([]);
  const isIn = feed.board.isComplete;
  useEffect(() => {
    if (isIn) rest<{ jobs: Job[] }>("/jobs").then((answer) => setJobs(answer.jobs), () => {});
  }, [feed, isIn]);
  return jobs;
}

interface BarProps {
  feed: Feed;
  text: string;
  mayMake: boolean;
  onText(text: string): void;
  onOpen(what: "create" | "invite"): void;
  onLeave: (() => void) | null;
}

function Bar({ feed, text, mayMake, onText, onOpen, onLeave }: BarProps) {
  const [theme, setTheme] = useState(storedTheme);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      const target = event.target as Element;
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
      if (target.closest("input, textarea, select, dialog") !== null) return;
      event.preventDefault();
      input.current?.focus();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
  const change = (): void => {
    const next = nextTheme(theme);
    useTheme(next);
    setTheme(next);
  };
  return (
    <header class="bar">
      <div class="brand">
        <h1>Interviews</h1>
        <FeedState feed={feed} />
      </div>
      <search class="search">
        <label class="visually-hidden" for="search">
          Search sessions by name, email, session id or job
        </label>
        <input
          ref={input}
          id="search"
          type="search"
          autocomplete="off"
          placeholder="Name, email, session id or job"
          aria-keyshortcuts="/"
          maxLength={200}
          value={text}
          onInput={(event) => onText(event.currentTarget.value)}
          onKeyDown={(event) => event.key === "Escape" && onText("")}
        />
        <kbd aria-hidden="true">/</kbd>
      </search>
      <div class="bar-buttons">
        {mayMake && (
          <>
            <button type="button" class="primary" onClick={() => onOpen("create")}>
              New interview
            </button>
            <button type="button" onClick={() => onOpen("invite")}>
              Invite several
            </button>
          </>
        )}
        <button type="button" class="quiet" onClick={change}>
          Colours: {theme}
        </button>
        {onLeave !== null && (
          <button type="button" class="quiet" onClick={onLeave}>
            Sign out
          </button>
        )}
      </div>
    </header>
  );
}

function FeedState({ feed }: { feed: Feed }) {
  const [text, kind] = { live: ["live", "here"], connecting: ["connecting…", "away"], lost: ["connecting again…", "lost"], key: ["", ""], closed: ["", ""] }[feed.state] as [string, string];
  return (
    <span class={`dot dot-${kind} feed-state`} role="status">
      {text}
    </span>
  );
}

function Trouble({ feed }: { feed: Feed }) {
  const trouble = feed.state === "lost" ? "The connection is lost; what is shown is not up to date." : feed.board.trouble;
  if (trouble === null) return null;
  return (
    <p class="warn panel notice" role="alert">
      {trouble}
    </p>
  );
}

interface SectionProps {
  id: string;
  title: string;
  count?: number;
  isEmpty: boolean;
  empty: string;
  tools?: preact.ComponentChildren;
  children: preact.ComponentChildren;
}

function Section({ id, title, count, isEmpty, empty, tools, children }: SectionProps) {
  return (
    <section class="panel list" aria-labelledby={`${id}-title`}>
      <div class="list-head">
        <h2 id={`${id}-title`}>
          {title} {count !== undefined && <span class="count">{count.toLocaleString()}</span>}
        </h2>
        {tools}
      </div>
      {isEmpty ? <p class="muted empty">{empty}</p> : children}
    </section>
  );
}

function More({ shown, of }: { shown: number; of: number }) {
  if (of <= shown) return null;
  return (
    <p class="muted empty">
      {shown} of {of.toLocaleString()} are shown; the search finds the others.
    </p>
  );
}

const FILTERS: [Filter, string][] = [
  ["all", "All"],
  ["attention", "Need attention"],
  ["paused", "Paused"],
];

interface LiveProps {
  rows: Row[];
  total: number;
  filter: Filter;
  onFilter(filter: Filter): void;
  desk: Desk;
}

function Live({ rows, total, filter, onFilter, desk }: LiveProps) {
  const wanted = rows.filter((row) => matches(row, filter));
  const tools = (
    <div class="filters" role="group" aria-label="Show">
      {FILTERS.map(([name, text]) => (
        <button key={name} type="button" class="small" aria-pressed={filter === name} onClick={() => onFilter(name)}>
          {text} <span class="count">{name === "all" ? rows.length : rows.filter((row) => matches(row, name)).length}</span>
        </button>
      ))}
    </div>
  );
  return (
    <Section id="live" title="In progress" count={total} isEmpty={wanted.length === 0} empty={rows.length === 0 ? "Nobody is being interviewed." : "None of them."} tools={tools}>
      <Table label="In progress" heads={LIVE_HEADS}>
        {wanted.map((row) => (
          <LiveRow key={row.session_id} row={row} desk={desk} />
        ))}
      </Table>
      <More shown={rows.length} of={total} />
    </Section>
  );
}

function Results({ found, rows, desk }: { found: Found | null; rows: ReadonlyMap<string, Row>; desk: Desk }) {
  const title = found === null ? "Searching…" : found.rows.length === 1 ? "1 session found" : `${found.rows.length} sessions found`;
  return (
    <section class="panel list" aria-labelledby="found-title">
      <div class="list-head">
        <h2 id="found-title">{title}</h2>
        <p class="visually-hidden" role="status">
          {title}
        </p>
      </div>
      {found?.problem && (
        <p class="error empty" role="alert">
          {found.problem}
        </p>
      )}
      {found !== null && found.rows.length > 0 && (
        <Table label="Sessions found" heads={FOUND_HEADS}>
          {found.rows.map((row) => (
            <FoundRow key={row.session_id} row={rows.get(row.session_id) ?? row} desk={desk} />
          ))}
        </Table>
      )}
      {found?.hasMore && <p class="muted empty">There are more; search for more of the name or the email.</p>}
    </section>
  );
}
