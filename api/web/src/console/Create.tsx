import { useState } from "preact/hooks";
import { Problem, rest } from "../api";
import { Dialog, Field } from "../dialogs";
import { uuid } from "../uuid";
import { CopyButton, CopyField } from "./copying";
import { csvOf, readInvited } from "./invitations";
import type { StaffSession } from "./model";

export interface Job {
  job_id: string;
  title: string;
  questions: unknown[];
}

const A_CALL = 50;

export function sentence(problem: unknown): string {
  return problem instanceof Problem ? problem.detail : "Something went wrong here.";
}

interface CreateProps {
  jobs: Job[];
  onMade(session: StaffSession): void;
  onCancel(): void;
}

interface Made {
  session: StaffSession;
  links: { candidate: string };
}

/** One new interview, and then the link that its candidate needs. */
export function CreateDialog({ jobs, onMade, onCancel }: CreateProps) {
  const [name, setName] = useState("");
  const [email, setEmail] = useState("");
  const [jobId, setJobId] = useState(jobs[0]?.job_id ?? "default");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const [key, setKey] = useState(uuid);
  const [made, setMade] = useState<Made | null>(null);
  const submit = async (): Promise<void> => {
    if (busy) return;
    if (name.trim() === "" || email.trim() === "") return setError("Give a name and an email address.");
    setBusy(true);
    setError("");
    try {
      const answer = await rest<Made>("/create", { json: { name: name.trim(), email: email.trim(), job_id: jobId }, key });
      onMade(answer.session);
      setMade(answer);
    } catch (problem) {
      setError(sentence(problem));
      if (problem instanceof Problem && problem.status !== 0) setKey(uuid());
    } finally {
      setBusy(false);
    }
  };
  if (made !== null)
    return (
      <Dialog key="made" title="The interview is ready" cancel="Close" busy={false} error="" onCancel={onCancel}>
        <p>
          Send this link to <b>{made.session.candidate.name}</b>. It opens the interview, so nobody else should have it.
        </p>
        <CopyField label="Candidate’s link" text={made.links.candidate} />
      </Dialog>
    );
  return (
    <Dialog key="new" title="New interview" action="Create" busy={busy} error={error} onCancel={onCancel} onSubmit={() => void submit()}>
      <Field id="name" label="Name" maxLength={200} required value={name} onText={setName} />
      <Field id="email" label="Email" inputMode="email" maxLength={320} required value={email} onText={setEmail} />
      <JobField jobs={jobs} value={jobId} onValue={setJobId} />
    </Dialog>
  );
}

function JobField({ jobs, value, onValue }: { jobs: Job[]; value: string; onValue(id: string): void }) {
  return (
    <div class="field">
      <label for="job">Job</label>
      <select id="job" value={value} onChange={(event) => onValue(event.currentTarget.value)}>
        {jobs.map((job) => (
          <option key={job.job_id} value={job.job_id}>
            {job.title} ({job.job_id})
          </option>
        ))}
      </select>
    </div>
  );
}

interface Result {
  name: string;
  email: string;
  link: string | null;
  problem: string | null;
}

interface BulkAnswer {
  results: { index: number; status: string; detail?: string; links?: { candidate: string } }[];
}

/** Many new interviews from pasted rows, and then all their links. */
export function InviteDialog({ jobs, onCancel }: { jobs: Job[]; onCancel(): void }) {
  const [text, setText] = useState("");
  const [jobId, setJobId] = useState(jobs[0]?.job_id ?? "default");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const [batch] = useState(uuid);
  const [results, setResults] = useState<Result[] | null>(null);
  const { invited, problems } = readInvited(text);

  const submit = async (): Promise<void> => {
    if (busy) return;
    if (problems.length > 0) return setError("Mend the lines that are named above first; nothing was made.");
    if (invited.length === 0) return setError("Paste at least one candidate.");
    setBusy(true);
    setError("");
    const found: Result[] = [];
    try {
      for (let first = 0; first < invited.length; first += A_CALL) {
        const some = invited.slice(first, first + A_CALL);
        // The same line of the same dialog is the same interview, however often it is sent.
        const sessions = some.map(({ name, email }) => ({ name, email, job_id: jobId, idempotency_key: `${batch}:${jobId}:${email}` }));
        const answer = await rest<BulkAnswer>("/sessions/bulk", { json: { sessions } });
        for (const { index, links, detail } of answer.results)
          found.push({ ...some[index]!, link: links?.candidate ?? null, problem: links === undefined ? (detail ?? "It was not made.") : null });
      }
      setResults(found);
    } catch (problem) {
      setError(`${sentence(problem)} Press the button again: what was made already is not made twice.`);
    } finally {
      setBusy(false);
    }
  };
  const read = async (file: File | undefined): Promise<void> => {
    if (file !== undefined) setText(await file.text());
  };

  if (results !== null) return <Links results={results} onCancel={onCancel} />;
  return (
    <Dialog key="invite" title="Invite several" action={`Create ${invited.length || ""} interviews`} wide busy={busy} error={error} onCancel={onCancel} onSubmit={() => void submit()}>
      <JobField jobs={jobs} value={jobId} onValue={setJobId} />
      <div class="field">
        <label for="candidates">Candidates: name and email, one a line, or pasted from a spreadsheet</label>
        <textarea
          id="candidates"
          rows={8}
          spellcheck={false}
          placeholder={"Ada Lovelace,ada@example.com\nAlan Turing,alan@example.com"}
          aria-describedby="candidates-read"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </div>
      <div class="field">
        <label for="file">Or a CSV file with the columns name and email</label>
        <input id="file" type="file" accept=".csv,.txt,text/csv" onChange={(event) => void read(event.currentTarget.files?.[0])} />
      </div>
      <div id="candidates-read" role="status">
        {text.trim() !== "" && <p class="muted">{invited.length === 1 ? "1 candidate" : `${invited.length} candidates`}</p>}
        {problems.length > 0 && (
          <ul class="problems error">
            {problems.slice(0, 8).map((problem) => (
              <li key={problem}>{problem}</li>
            ))}
            {problems.length > 8 && <li>…and {problems.length - 8} more.</li>}
          </ul>
        )}
      </div>
    </Dialog>
  );
}

function Links({ results, onCancel }: { results: Result[]; onCancel(): void }) {
  const made = results.filter((result) => result.link !== null);
  const failed = results.filter((result) => result.link === null);
  const csv = csvOf([["name", "email", "link"], ...made.map(({ name, email, link }) => [name, email, link!])]);
  return (
    <Dialog key="links" title={made.length === 1 ? "1 interview is ready" : `${made.length} interviews are ready`} cancel="Close" wide busy={false} error="" onCancel={onCancel}>
      <p>Each link opens one interview; send it to its candidate only.</p>
      <CopyButton label="all links" text={csv}>
        Copy all as CSV
      </CopyButton>
      <ul class="links">
        {made.map(({ name, email, link }) => (
          <li key={email}>
            <span>
              {name} <span class="muted">{email}</span>
            </span>
            <CopyField label={`Link of ${name}`} text={link!} />
          </li>
        ))}
      </ul>
      {failed.length > 0 && (
        <>
          <h3 class="error">Not made</h3>
          <ul class="problems">
            {failed.map(({ email, problem }) => (
              <li key={email}>
                {email}: {problem}
              </li>
            ))}
          </ul>
        </>
      )}
    </Dialog>
  );
}
