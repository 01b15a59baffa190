import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Problem } from "../api";
import type { Session } from "./model";
import type { LiveSession } from "./session";

const MOST_SECONDS = 86_400;

/** What staff can do: pause and resume, more time, the end. */
export function Controls({ session, live }: { session: Session; live: LiveSession }) {
  const [dialog, setDialog] = useState<"extend" | "end" | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");

  const run = async (name: string, body?: object): Promise<void> => {
    if (busy) return;
    setBusy(true);
    setError("");
    try {
      await live.command(name, body);
      setDialog(null);
    } catch (problem) {
      setError(problem instanceof Problem ? problem.detail : "Something went wrong here.");
      if (!(problem instanceof Problem)) throw problem;
    } finally {
      setBusy(false);
    }
  };
  const open = (which: "extend" | "end"): void => {
    setError("");
    setDialog(which);
  };
  const shared = { busy, error, onCancel: () => setDialog(null) };

  const runs = session.status === "in_progress";
  const parked = session.status_detail === "parked";
  const paused = session.status_detail === "paused";
  // One button, so that the focus stays on it.
  const toggle = paused ? "resume" : "pause";
  return (
    <section aria-label="Controls">
      <div class="controls">
        <button type="button" disabled={!runs || parked} aria-busy={busy} onClick={() => void run(toggle)}>
          {paused ? "Resume" : "Pause"}
        </button>
        <button type="button" disabled={!runs} onClick={() => open("extend")}>
          Extend…
        </button>
        <button type="button" class="danger" disabled={session.status === "completed"} onClick={() => open("end")}>
          End…
        </button>
      </div>
      {dialog === null && error !== "" && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      {dialog === "extend" && <ExtendDialog {...shared} onExtend={(body) => void run("extend", body)} />}
      {dialog === "end" && <EndDialog {...shared} started={runs} onEnd={(body) => void run("end", body)} />}
    </section>
  );
}

interface Shared {
  busy: boolean;
  error: string;
  onCancel(): void;
}

function ExtendDialog({ onExtend, ...shared }: Shared & { onExtend(body: { seconds: number; reason: string }): void }) {
  const [minutes, setMinutes] = useState("5");
  const [seconds, setSeconds] = useState("0");
  const [reason, setReason] = useState("");
  const [wrong, setWrong] = useState("");
  const submit = (): void => {
    const total = Number(minutes) * 60 + Number(seconds);
    const found = whatIsWrong(total, reason);
    setWrong(found);
    if (found === "") onExtend({ seconds: total, reason: reason.trim() });
  };
  return (
    <Dialog title="More time for the open question" action="Extend" {...shared} error={wrong || shared.error} onSubmit={submit}>
      <div class="amount">
        <Field id="minutes" label="Minutes" inputMode="decimal" value={minutes} onText={setMinutes} />
        <Field id="seconds" label="Seconds" inputMode="decimal" value={seconds} onText={setSeconds} />
      </div>
      <Field id="reason" label="Reason" maxLength={500} required value={reason} onText={setReason} />
    </Dialog>
  );
}

function whatIsWrong(seconds: number, reason: string): string {
  if (!(seconds > 0 && seconds <= MOST_SECONDS)) return "Give a time from one second to 24 hours.";
  return reason.trim() === "" ? "Give a reason; it is kept in the journal." : "";
}

function EndDialog({ started, onEnd, ...shared }: Shared & { started: boolean; onEnd(body: object): void }) {
  const [reason, setReason] = useState("");
  const submit = (): void => onEnd(reason.trim() === "" ? {} : { reason: reason.trim() });
  return (
    <Dialog title={started ? "End this interview?" : "End this interview before it starts?"} action="End the interview" danger {...shared} onSubmit={submit}>
      <p>
        {started
          ? "The open question is closed with what was typed so far. The interview cannot be continued."
          : "It cannot be started any more then."}
      </p>
      <Field id="reason" label="Reason (optional)" maxLength={500} value={reason} onText={setReason} />
    </Dialog>
  );
}

interface DialogProps extends Shared {
  title: string;
  action: string;
  danger?: boolean;
  onSubmit(): void;
  children: ComponentChildren;
}

function Dialog({ title, action, danger, busy, error, onCancel, onSubmit, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const opener = document.activeElement as HTMLElement | null;
    dialog.current!.showModal();
    // A dialog that is taken out of the page does not give the focus back by itself.
    return () => (opener?.matches(":disabled") ? document.querySelector("main") : opener)?.focus();
  }, []);
  const submit = (event: Event): void => {
    event.preventDefault();
    onSubmit();
  };
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={onCancel}>
      <form onSubmit={submit} noValidate>
        <h2 id="dialog-title">{title}</h2>
        {children}
        {error !== "" && (
          <p class="error" role="alert">
            {error}
          </p>
        )}
        <div class="dialog-buttons">
          <button type="button" onClick={onCancel}>
            Cancel
          </button>
          <button type="submit" class={danger ? "primary danger" : "primary"} aria-busy={busy}>
            {action}
          </button>
        </div>
      </form>
    </dialog>
  );
}

interface FieldProps {
  id: string;
  label: string;
  value: string;
  onText(text: string): void;
  inputMode?: "decimal";
  maxLength?: number;
  required?: boolean;
}

function Field({ id, label, onText, ...input }: FieldProps) {
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="text" autocomplete="off" {...input} onInput={(event) => onText(event.currentTarget.value)} />
    </div>
  );
}
